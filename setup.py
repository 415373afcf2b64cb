"""ament_python build of xray_registration (colcon build, or pip install)."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

NAME = "xray_registration"
# Installed as share/xray_registration/<folder>/..., where launch files and users look for them.
SHARED_FOLDERS = ("launch", "config", "urdf", "worlds", "rviz")


def shared_files() -> list[tuple[str, list[str]]]:
    """(destination folder, files) for everything that is not Python code."""
    files: list[tuple[str, list[str]]] = [
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
    ]
    for top in SHARED_FOLDERS:
        by_folder: dict[Path, list[str]] = {}
        for path in sorted(Path(top).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                by_folder.setdefault(path.parent, []).append(str(path))
        files += [(f"share/{NAME}/{folder}", paths) for folder, paths in by_folder.items()]
    return files


setup(
    name=NAME,
    version="0.1.0",
    description="2D/3D registration of C-arm X-ray images to a CT for surgical robots on ROS 2",
    license="Apache-2.0",
    maintainer="xray_registration maintainers",
    maintainer_email="maintainers@xray-registration.example",
    # Named, so that test/, training/ and benchmarks/ are not installed.
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        NAME: [
            *("py.typed", "**/*.json", "**/*.yaml", "**/*.html", "**/*.css", "**/*.js"),
            "**/*.cpp",
            "**/*.safetensors",  # trained weights
        ]
    },
    data_files=shared_files(),
    python_requires=">=3.10",
    # Only what rosdep cannot name is an extra; the rest comes from package.xml.
    install_requires=["setuptools"],
    extras_require={
        "imaging": ["SimpleITK", "pydicom", "tifffile"],
        "fast": ["numba"],
        "diffdrr": ["diffdrr", "torchio", "nibabel", "roma"],
        "bags": ["rosbags", "mcap"],
        "report": ["rich", "matplotlib"],
        "evaluation": ["cma", "h5py"],
        "cohort": ["distributed"],
        "learning": ["safetensors", "rich", "tensorboard"],
        # colcon test runs pytest when an extra of this name asks for it.
        "test": ["pytest"],
    },
    # Files of the package are opened by path.
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "xray-registration = xray_registration.cli:main",
            "registration_node = xray_registration.ros.registration_node:main",
            "carm_simulator = xray_registration.ros.carm_simulator:main",
            "joint_sweep = xray_registration.ros.joint_sweep:main",
            "truth_monitor = xray_registration.ros.truth_monitor:main",
        ],
    },
)
