"""See it work: a simulated C-arm swings about a real spine, and the true error of every image.

ros2 launch xray_registration demo.launch.py
"""

from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from xray_registration.files import shared_file
from xray_registration.ros import launching

FORWARDED = (
    "namespace", "params_file", "use_sim_time", "autostart", "use_respawn", "log_level", "rviz",
    "rviz_config", "child_frame_id", "fastdds_profile", "simulator_params_file", "motion", "prefix",
)  # fmt: skip


def generate_launch_description():
    """Build the description."""
    simulation = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(shared_file("launch/simulation.launch.py"))),
        launch_arguments=launching.forwarded(FORWARDED).items(),
    )
    return LaunchDescription(
        [
            *launching.common_arguments(
                "simulation_registration.yaml", use_sim_time="auto", rviz_config="simulation.rviz"
            ),
            launching.argument(
                "simulator_params_file",
                shared_file("config/demo_simulator.yaml"),
                "YAML with the parameters of carm_simulator.",
            ),
            launching.argument("motion", "orbit", "What moves the arm, as in simulation."),
            launching.argument("prefix", "carm_", "Of the arm's links, joints and frames."),
            simulation,
            launching.node("truth_monitor", [LaunchConfiguration("params_file")]),
        ]
    )
