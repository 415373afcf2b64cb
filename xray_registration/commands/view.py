"""xray-registration view: what the registration node sees and says, live in a browser."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import webbrowser
from typing import Any

from xray_registration.optional import require

_DESCRIPTION = """\
Serves a page with the X-ray and its overlay, the C-arm and the patient in 3D, and whether the pose
may be used. Listens to a running registration_node over DDS (ROS_DOMAIN_ID as usual) and sends it
nothing. Any number of browsers, no RViz, no internet. Ctrl-C ends it.
"""
_EPILOG = """\
Anybody who can reach the address sees the patient's pictures: --host other than the default shows
them to the network. Exit codes: 0 ended by Ctrl-C, 2 bad input.
"""


def add_parser(verbs: Any) -> None:
    """Add ``view`` to the verbs."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "view",
        help="watch a running registration node in a browser",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=8770, help="0 = any free one (8770)")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on (127.0.0.1)")
    parser.add_argument("--namespace", default="", help="of the registration node (none)")
    parser.add_argument("--node", default="registration_node", help="its name (registration_node)")
    parser.add_argument(
        "--image", default="", metavar="TOPIC", help="X-ray images, camera_info beside it (image)"
    )
    parser.add_argument(
        "--view", default="", metavar="NAME", help="which of several views, e.g. view_0 (none)"
    )
    parser.add_argument(
        "--stale-after",
        type=float,
        default=10.0,
        metavar="S",
        help="a pose older than this is shown as stale, whatever the node says (10)",
    )
    parser.add_argument(
        "--silent-after",
        type=float,
        default=3.0,
        metavar="S",
        help="a node that says nothing for so long is shown as silent (3)",
    )
    parser.add_argument("--rate", type=float, default=5.0, help="updates per second (5)")
    parser.add_argument("--no-browser", action="store_true", help="do not open one here")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C.

    Raises:
        InputError: unusable options.
        MissingDependencyError: tornado or ROS is missing.
        ProcessError: the shipped Fast DDS profile is missing.
    """
    from xray_registration.commands.ros_processes import fastdds_profile, profile_variable

    # Room for large images, as the nodes have it, unless the user has a profile of his own.
    os.environ.setdefault(profile_variable(), str(fastdds_profile()))
    require("tornado")
    require("rclpy", "ros-rclpy")
    from xray_registration.ros.view.run import ViewConfig, run_view
    from xray_registration.ros.view.standing import Limits
    from xray_registration.ros.view.topics import Topics

    config = ViewConfig(
        arguments.host,
        arguments.port,
        arguments.rate,
        Topics(arguments.namespace.strip("/"), arguments.node, arguments.image, arguments.view),
        Limits(arguments.stale_after, arguments.silent_after),
    )

    def on_ready(address: str) -> None:
        print(f"{address} shows {config.topics.full_node}; Ctrl-C ends it", flush=True)
        if not arguments.no_browser and _has_display():
            # some browsers stay in the foreground until they are closed
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    run_view(config, on_ready)
    return 0


def _has_display() -> bool:
    """Without one, a browser of text would take the terminal."""
    if not sys.platform.startswith("linux"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
