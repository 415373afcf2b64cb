"""Launch actions that put the C-arm into Gazebo Sim and connect its joints with ROS.

Imported by launch files only.
"""

from __future__ import annotations

from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext
from launch.actions import IncludeLaunchDescription, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from xray_registration.ros import launching

_PACKAGES = ("ros_gz_sim", "ros_gz_bridge", "robot_state_publisher")
_CONTROL_PACKAGES = (
    "gz_ros2_control",
    "controller_manager",
    "joint_state_broadcaster",
    "joint_trajectory_controller",
)


def gazebo_actions(context: LaunchContext, prefix: str) -> list[Any]:
    """Gazebo, the arm in it, the bridge and the controllers.

    Raises:
        RuntimeError: a ROS package is not installed.
    """
    is_ros2_control = launching.given(context, "gazebo_control") == "ros2_control"
    packages = _PACKAGES + (_CONTROL_PACKAGES if is_ros2_control else ())
    launching.need(packages, "motion:=gazebo", "motion:=orbit")

    actions: list[Any] = []
    if launching.given(context, "start_gazebo") == "true":
        options = "-r" if launching.given(context, "gazebo_gui") == "true" else "-r -s"
        share = get_package_share_directory("ros_gz_sim")
        actions.append(
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(f"{share}/launch/gz_sim.launch.py"),
                launch_arguments={
                    "gz_args": f"{options} {launching.given(context, 'world')}"
                }.items(),
            )
        )
        # The one clock of the world, whatever the namespaces of the arms are.
        actions.append(_bridge("clock_bridge", "config/gazebo_clock_bridge.yaml", "", prefix))
    spawn = Node(
        package="ros_gz_sim",
        executable="create",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        arguments=["-topic", "robot_description", "-name", f"{prefix}arm"],
    )
    actions.append(spawn)
    if is_ros2_control:
        spawner = Node(
            package="controller_manager",
            executable="spawner",
            namespace=LaunchConfiguration("namespace"),
            output="screen",
            arguments=["joint_state_broadcaster", f"{prefix}controller"],
        )
        started = OnProcessExit(target_action=spawn, on_exit=[spawner])
        actions.append(RegisterEventHandler(started))
    else:
        namespace = LaunchConfiguration("namespace")
        actions.append(
            _bridge("joint_bridge", "config/gazebo_joint_bridge.yaml", namespace, prefix)
        )
    return actions


def _bridge(name: str, file: str, namespace: Any, prefix: str) -> Node:
    return Node(
        package="ros_gz_bridge",
        executable="parameter_bridge",
        name=name,
        namespace=namespace,
        output="screen",
        parameters=[{"config_file": str(launching.with_prefix(file, prefix))}],
    )
