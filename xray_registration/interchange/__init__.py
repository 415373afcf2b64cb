"""Other people's files: cameras, poses and landmarks of C-arms and of other programs.

Every reader gives this package's own objects (Camera, camera_from_... in LPS mm, names to LPS mm
points) and refuses what the file does not say; every file that is written is read back the same.
"""
