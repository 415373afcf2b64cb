"""A simulated C-arm about a real spine, registration_node, and RViz.

ros2 launch xray_registration simulation.launch.py                  # the arm moves by itself
ros2 launch xray_registration simulation.launch.py motion:=gui      # sliders move it
ros2 launch xray_registration simulation.launch.py motion:=gazebo   # Gazebo Sim moves it
ros2 launch xray_registration simulation.launch.py namespace:=left prefix:=left_ \
    child_frame_id:=left_patient                                    # beside another one
"""

from launch import LaunchDescription
from launch.actions import (
    GroupAction,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    SetLaunchConfiguration,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.parameter_descriptions import ParameterValue

from xray_registration.files import shared_file
from xray_registration.ros import launching
from xray_registration.ros.carm_description import carm_description
from xray_registration.ros.gazebo_launch import gazebo_actions

MOTIONS = ("orbit", "arc", "gui", "gazebo", "none")
REGISTRATION = (
    "namespace", "params_file", "use_sim_time", "autostart", "use_respawn", "log_level",
    "child_frame_id", "fastdds_profile",
)  # fmt: skip


def start(context):
    """Everything but RViz."""
    motion, prefix = (launching.given(context, name) for name in ("motion", "prefix"))
    registration = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(shared_file("launch/registration.launch.py"))),
        launch_arguments=launching.forwarded(REGISTRATION, rviz="false").items(),
    )
    # In a group, so that rviz:=false is for the included file only.
    actions = [GroupAction([registration])]
    parameters = [launching.given(context, "simulator_params_file"), {"arm.prefix": prefix}]
    if motion == "arc":
        parameters.append({"mode": "sweep"})
        return [*actions, launching.node("carm_simulator", parameters)]

    description = carm_description(
        {
            "prefix": prefix,
            **{axis: launching.given(context, f"arm_{axis}") for axis in ("x", "y", "yaw")},
            **launching.xacro_arguments(launching.given(context, "arm_arguments")),
            "namespace": launching.given(context, "namespace"),
            **(gazebo_description(context, prefix) if motion == "gazebo" else {}),
        }
    )
    model = {"robot_description": ParameterValue(description, value_type=str)}
    has_publisher = launching.is_installed("robot_state_publisher")
    follow = {"mode": "joint_states", "arm.publish_tf": not has_publisher}
    actions.append(launching.node("carm_simulator", [*parameters, follow, model]))
    if has_publisher:
        actions.append(
            launching.node("robot_state_publisher", [model], package="robot_state_publisher")
        )
    else:
        text = "robot_state_publisher is not installed: carm_simulator publishes the arm's TF"
        actions.append(LogInfo(msg=text))
    if motion == "orbit":
        sweep_file = launching.given(context, "sweep_params_file")
        actions.append(launching.node("joint_sweep", [sweep_file, {"arm.prefix": prefix}]))
    elif motion == "gui":
        launching.need(("joint_state_publisher_gui",), "motion:=gui", "motion:=orbit")
        actions.append(
            launching.node("joint_state_publisher_gui", [model], "joint_state_publisher_gui")
        )
    elif motion == "gazebo":
        actions += gazebo_actions(context, prefix)
    return actions


def gazebo_description(context, prefix):
    """Arguments of the model for Gazebo."""
    return {
        "gazebo": launching.given(context, "gazebo_control"),
        "hardware": "gz_ros2_control/GazeboSimSystem",
        "controllers_file": str(launching.with_prefix("config/carm_controllers.yaml", prefix)),
    }


def choose_time(context):
    """use_sim_time:=auto is true with Gazebo, which publishes /clock."""
    if launching.given(context, "use_sim_time") != "auto":
        return []
    is_simulated = launching.given(context, "motion") == "gazebo"
    return [SetLaunchConfiguration("use_sim_time", "true" if is_simulated else "false")]


def generate_launch_description():
    """Build the description."""
    argument = launching.argument
    return LaunchDescription(
        [
            *launching.common_arguments(
                "simulation_registration.yaml",
                rviz="true",
                use_sim_time="auto",
                rviz_config="simulation.rviz",
            ),
            argument(
                "simulator_params_file",
                shared_file("config/carm_simulator.yaml"),
                "YAML with the parameters of carm_simulator.",
            ),
            argument(
                "motion",
                "orbit",
                "What moves the arm: orbit (joint_sweep), arc (the simulator's scripted sweep; no "
                "joints), gui (joint_state_publisher_gui), gazebo, none (someone else publishes "
                "joint_states).",
                MOTIONS,
            ),
            argument(
                "sweep_params_file",
                shared_file("config/joint_sweep.yaml"),
                "YAML with the parameters of joint_sweep (motion:=orbit).",
            ),
            argument("prefix", "carm_", "Of the arm's links, joints and frames."),
            argument("arm_x", "-1.3", "Where the cart stands in the world, m."),
            argument("arm_y", "0.0", "Where the cart stands in the world, m."),
            argument("arm_yaw", "0.0", "How the cart is turned in the world, rad."),
            argument(
                "arm_arguments",
                "",
                "Further arguments of urdf/carm.urdf.xacro: 'reach:=1.4 isocentre_height:=1.0'.",
            ),
            argument(
                "gazebo_control",
                "ros2_control",
                "Of the joints in Gazebo: ros2_control, or its own controllers through ros_gz.",
                ("ros2_control", "ros_gz"),
            ),
            argument("world", shared_file("worlds/carm_room.sdf"), "SDF world for Gazebo."),
            argument("gazebo_gui", "true", "Show Gazebo's window.", launching.TRUE_FALSE),
            argument(
                "start_gazebo",
                "true",
                "false: put the arm into a Gazebo that runs already.",
                launching.TRUE_FALSE,
            ),
            *launching.environment(),
            OpaqueFunction(function=launching.check_rviz),
            OpaqueFunction(function=choose_time),
            OpaqueFunction(function=start),
            launching.rviz_node(),
        ]
    )
