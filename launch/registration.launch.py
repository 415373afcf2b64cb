"""registration_node, configured from a YAML file.

ros2 launch xray_registration registration.launch.py params_file:=my.yaml
"""

from launch import LaunchDescription
from launch.actions import OpaqueFunction

from xray_registration.ros import launching


def start(context):
    """The node; child_frame_id goes over the parameter file only when it is given."""
    child = launching.given(context, "child_frame_id")
    changes = {"autostart": launching.boolean("autostart")}
    if child:
        changes["child_frame_id"] = child
    params_file = launching.given(context, "params_file")
    return [launching.node("registration_node", [params_file, changes])]


def generate_launch_description():
    """Build the description."""
    return LaunchDescription(
        [
            *launching.common_arguments("registration.yaml"),
            *launching.environment(),
            OpaqueFunction(function=launching.check_rviz),
            OpaqueFunction(function=start),
            launching.rviz_node(),
        ]
    )
