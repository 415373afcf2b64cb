"""registration_node with two views, and a simulated biplane C-arm that takes them.

ros2 launch xray_registration biplane.launch.py
ros2 launch xray_registration biplane.launch.py simulate:=false params_file:=my.yaml
"""

from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource

from xray_registration.files import shared_file
from xray_registration.ros import launching

REGISTRATION = (
    "namespace", "params_file", "use_sim_time", "autostart", "use_respawn", "log_level", "rviz",
    "rviz_config", "child_frame_id", "fastdds_profile",
)  # fmt: skip
SIMULATION = (*REGISTRATION, "simulator_params_file", "motion", "prefix")


def start(context):
    """The simulation, or registration_node alone."""
    is_simulated = launching.given(context, "simulate") == "true"
    name = "simulation" if is_simulated else "registration"
    names = SIMULATION if is_simulated else REGISTRATION
    changed = {}
    if not is_simulated and launching.given(context, "use_sim_time") == "auto":
        changed["use_sim_time"] = "false"
    return [
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(shared_file(f"launch/{name}.launch.py"))),
            launch_arguments=launching.forwarded(names, **changed).items(),
        )
    ]


def generate_launch_description():
    """Build the description."""
    return LaunchDescription(
        [
            *launching.common_arguments(
                "biplane_registration.yaml", use_sim_time="auto", rviz_config="biplane.rviz"
            ),
            launching.argument(
                "simulate", "true", "Start carm_simulator with two views.", launching.TRUE_FALSE
            ),
            launching.argument(
                "simulator_params_file",
                shared_file("config/biplane_simulator.yaml"),
                "YAML with the parameters of carm_simulator.",
            ),
            launching.argument("motion", "orbit", "What moves the arm, as in simulation."),
            launching.argument("prefix", "carm_", "Of the arm's links, joints and frames."),
            OpaqueFunction(function=start),
        ]
    )
