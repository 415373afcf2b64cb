"""What the launch files share: their common arguments, the environment of the processes, nodes.

Imported by launch files only: launch and launch_ros exist where ROS 2 is installed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from xray_registration.files import shared_file

PACKAGE = "xray_registration"
TRUE_FALSE = ("true", "false")
DEFAULT_PREFIX = "carm_"
# A node that comes back at once would fill the disk with logs when it cannot work at all.
_RESPAWN_DELAY_S = 2.0

_COMMON = {
    "namespace": ("", "Of nodes and topics."),
    "use_sim_time": ("false", "Take the time from /clock."),
    "autostart": ("true", "Configure and activate registration_node at start-up."),
    "use_respawn": ("false", "Start a node anew, after 2 s, when its process has ended."),
    "log_level": ("info", "Of the nodes."),
    "rviz": ("false", "Start RViz."),
    "child_frame_id": ("", "TF frame of the patient; empty = as params_file says."),
}


def argument(
    name: str, default: object, description: str, choices: Iterable[str] | None = None
) -> DeclareLaunchArgument:
    """One launch argument."""
    options: dict[str, Any] = {} if choices is None else {"choices": list(choices)}
    return DeclareLaunchArgument(
        name, default_value=str(default), description=description, **options
    )


def common_arguments(
    params_file: str, rviz_config: str = "registration.rviz", **defaults: str
) -> list[DeclareLaunchArgument]:
    """The arguments that every launch file of nodes has.

    Args:
        params_file: default parameter file of registration_node, in config/.
        rviz_config: default configuration of RViz, in rviz/.
        defaults: other defaults, by argument.
    """
    known = {name: (defaults.get(name, value), text) for name, (value, text) in _COMMON.items()}
    return [
        *(
            argument(name, value, text, TRUE_FALSE if value in TRUE_FALSE else None)
            for name, (value, text) in known.items()
        ),
        argument(
            "params_file",
            shared_file(f"config/{params_file}"),
            "YAML with the parameters of registration_node.",
        ),
        argument("rviz_config", shared_file(f"rviz/{rviz_config}"), "What RViz shows and how."),
        argument(
            "fastdds_profile",
            os.environ.get(_profile_variable(), str(shared_file("config/fastdds_profile.xml"))),
            "Fast DDS profile with room for X-ray images.",
        ),
    ]


def environment() -> list[SetEnvironmentVariable]:
    """Of all processes that are started after it."""
    # Waiting threads that spin would take the cores from the other nodes.
    policy = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
    return [
        SetEnvironmentVariable("OMP_WAIT_POLICY", policy),
        SetEnvironmentVariable(_profile_variable(), LaunchConfiguration("fastdds_profile")),
    ]


def node(
    executable: str,
    parameters: list[Any],
    package: str = PACKAGE,
    arguments: Iterable[Any] = (),
    **options: Any,
) -> Node:
    """A node with the common arguments applied; ``options`` go to launch_ros' Node."""
    options.setdefault("name", executable)
    return Node(
        package=package,
        executable=executable,
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[*parameters, {"use_sim_time": boolean("use_sim_time")}],
        arguments=[*arguments, "--ros-args", "--log-level", LaunchConfiguration("log_level")],
        respawn=LaunchConfiguration("use_respawn"),
        respawn_delay=_RESPAWN_DELAY_S,
        # The node hears the signal itself; torch may need a moment to come to an end.
        sigterm_timeout="20",
        **options,
    )


def rviz_node() -> Node:
    """RViz, when the argument rviz is true; topics of its configuration are in the namespace."""
    return Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        arguments=["-d", LaunchConfiguration("rviz_config")],
        parameters=[{"use_sim_time": boolean("use_sim_time")}],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )


def boolean(name: str) -> ParameterValue:
    """An argument as the value of a parameter."""
    return ParameterValue(LaunchConfiguration(name), value_type=bool)


def given(context: LaunchContext, name: str) -> str:
    """Value of an argument."""
    return str(LaunchConfiguration(name).perform(context))


def is_installed(package: str) -> bool:
    """A ROS package is on AMENT_PREFIX_PATH."""
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return False
    return True


def xacro_arguments(text: str) -> dict[str, str]:
    """``name:=value name:=value`` as a dictionary.

    Raises:
        RuntimeError: another form.
    """
    arguments = {}
    for word in text.split():
        name, separator, value = word.partition(":=")
        if not (name and separator and value):
            raise RuntimeError(f"arm_arguments has '{word}'; expected name:=value")
        arguments[name] = value
    return arguments


def need(packages: Iterable[str], wanted: str, instead: str) -> None:
    """See that ROS packages are installed.

    Args:
        packages: their names.
        wanted: the argument that needs them, as it was given.
        instead: what works without them.

    Raises:
        RuntimeError: one is not; launch prints the message and ends.
    """
    missing = [package for package in packages if not is_installed(package)]
    if missing:
        debian = " ".join(f"ros-$ROS_DISTRO-{package.replace('_', '-')}" for package in missing)
        raise RuntimeError(
            f"{wanted} needs what is not installed here: {', '.join(missing)}. Install it "
            f"(apt-get install {debian}), or start with {instead}."
        )


def check_rviz(context: LaunchContext) -> list[Any]:
    """For an OpaqueFunction: RViz is there when it is wanted."""
    if given(context, "rviz") == "true":
        need(("rviz2",), "rviz:=true", "rviz:=false")
    return []


def with_prefix(name: str, prefix: str) -> Path:
    """A file of ours in which names of the default C-arm are those of another prefix.

    Files that other programs read (controllers, bridges) know no substitutions.
    """
    path = shared_file(name)
    if prefix == DEFAULT_PREFIX:
        return path
    text = path.read_text(encoding="utf-8").replace(DEFAULT_PREFIX, prefix)
    folder = Path(tempfile.mkdtemp(prefix="xray_registration_"))
    copy = folder / path.name
    copy.write_text(text, encoding="utf-8")
    return copy


def _profile_variable() -> str:
    # Jazzy's Fast DDS 2 has the older name.
    is_older = os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy")
    return f"FAST{'RTPS' if is_older else 'DDS'}_DEFAULT_PROFILES_FILE"


def forwarded(names: Iterable[str], **changed: Any) -> Mapping[str, Any]:
    """Arguments of an included launch file: those of this one, some of them changed."""
    return {**{name: LaunchConfiguration(name) for name in names}, **changed}
