"""carm_simulator and registration_node: a C-arm that turns about a real spine, and its pose on /tf.

ros2 launch xray_registration simulation.launch.py
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

FORWARDED = ("namespace", "use_sim_time", "autostart", "log_level")


def generate_launch_description():
    """Build the description."""
    share = Path(get_package_share_directory("xray_registration"))
    config = share / "config"
    arguments = [
        DeclareLaunchArgument("namespace", default_value="", description="Of nodes and topics."),
        DeclareLaunchArgument(
            "params_file",
            default_value=str(config / "simulation_registration.yaml"),
            description="YAML with the parameters of registration_node.",
        ),
        DeclareLaunchArgument(
            "simulator_params_file",
            default_value=str(config / "carm_simulator.yaml"),
            description="YAML with the parameters of carm_simulator.",
        ),
        DeclareLaunchArgument(
            "use_sim_time", default_value="false", description="Take the time from /clock."
        ),
        DeclareLaunchArgument(
            "autostart", default_value="true", description="Configure and activate at start-up."
        ),
        DeclareLaunchArgument("log_level", default_value="info", description="Of the nodes."),
    ]
    # First, so that the simulator inherits the Fast DDS profile that it sets.
    registration = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / "launch" / "registration.launch.py")),
        launch_arguments=[
            *((name, LaunchConfiguration(name)) for name in FORWARDED),
            ("params_file", LaunchConfiguration("params_file")),
        ],
    )
    simulator = Node(
        package="xray_registration",
        executable="carm_simulator",
        name="carm_simulator",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[
            LaunchConfiguration("simulator_params_file"),
            {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)},
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
    )
    return LaunchDescription([*arguments, registration, simulator])
