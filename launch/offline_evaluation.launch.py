"""A bag through the code of registration_node: figures and a result bag, then it ends.

ros2 launch xray_registration offline_evaluation.launch.py bag:=run_1 params_file:=my.yaml
    truth:=/ground_truth/pose
"""

import os
import sys
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.substitutions import LaunchConfiguration

OPTIONS = {"truth": "--truth", "image_topic": "--image-topic", "storage": "--storage"}


def evaluate(context):
    """The command, with the options that were given."""

    def given(name):
        return LaunchConfiguration(name).perform(context)

    bag = given("bag")
    out = given("out") or f"{bag.rstrip('/')}_evaluation"
    command = [sys.executable, "-m", "xray_registration.cli", "evaluate", bag, "--out", out]
    command += ["--params", given("params_file")]
    for name, option in OPTIONS.items():
        if given(name):
            command += [option, given(name)]
    if given("overlays") != "true":
        command.append("--no-overlays")
    return [ExecuteProcess(cmd=command, output="screen")]


def generate_launch_description():
    """Build the description."""
    config = Path(get_package_share_directory("xray_registration")) / "config"
    arguments = [
        DeclareLaunchArgument(
            "bag", description="rosbag2 (folder, .mcap, .db3) or folder of images."
        ),
        DeclareLaunchArgument(
            "out", default_value="", description="Folder to write; default: <bag>_evaluation."
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=str(config / "registration.yaml"),
            description="YAML with the parameters of registration_node (ct_path, ...).",
        ),
        DeclareLaunchArgument("truth", default_value="", description="Topic of true poses."),
        DeclareLaunchArgument(
            "image_topic", default_value="", description="Default: the only Image topic."
        ),
        DeclareLaunchArgument(
            "storage", default_value="", description="mcap or sqlite3; default: as the bag."
        ),
        DeclareLaunchArgument(
            "overlays", default_value="true", description="Pictures in the result bag."
        ),
    ]
    # Waiting threads that spin would take the cores from those that work.
    policy = SetEnvironmentVariable("OMP_WAIT_POLICY", os.environ.get("OMP_WAIT_POLICY", "PASSIVE"))
    return LaunchDescription([*arguments, policy, OpaqueFunction(function=evaluate)])
