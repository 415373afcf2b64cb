"""The ROS 2 layer: thin nodes around the library. Nothing outside this folder imports rclpy."""
