"""registration_node, configured from a YAML file.

ros2 launch xray_registration registration.launch.py params_file:=my.yaml
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue


def generate_launch_description():
    """Build the description."""
    config = Path(get_package_share_directory("xray_registration")) / "config"
    # Jazzy's Fast DDS 2 has the older name.
    is_older = os.environ.get("ROS_DISTRO") in ("humble", "jazzy")
    variable = f"{'FASTRTPS' if is_older else 'FASTDDS'}_DEFAULT_PROFILES_FILE"
    profile = os.environ.get(variable, str(config / "fastdds_profile.xml"))
    arguments = [
        DeclareLaunchArgument("namespace", default_value="", description="Of node and topics."),
        DeclareLaunchArgument(
            "params_file",
            default_value=str(config / "registration.yaml"),
            description="YAML with the node's parameters.",
        ),
        DeclareLaunchArgument(
            "use_sim_time", default_value="false", description="Take the time from /clock."
        ),
        DeclareLaunchArgument(
            "autostart", default_value="true", description="Configure and activate at start-up."
        ),
        DeclareLaunchArgument("log_level", default_value="info", description="Of the node."),
        DeclareLaunchArgument(
            "fastdds_profile",
            default_value=profile,
            description="Fast DDS profile with room for X-ray images.",
        ),
    ]
    use_sim_time = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    autostart = ParameterValue(LaunchConfiguration("autostart"), value_type=bool)
    node = Node(
        package="xray_registration",
        executable="registration_node",
        name="registration_node",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[
            LaunchConfiguration("params_file"),
            {"use_sim_time": use_sim_time, "autostart": autostart},
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        # The node hears the signal itself; torch may need a moment to come to an end.
        sigterm_timeout="20",
    )
    environment = SetEnvironmentVariable(variable, LaunchConfiguration("fastdds_profile"))
    return LaunchDescription([*arguments, environment, node])
