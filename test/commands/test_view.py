"""Options of the view that cannot be used."""

from __future__ import annotations

import pytest

from xray_registration import cli

pytest.importorskip("rclpy")
pytest.importorskip("tornado")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "70000"], "--port is 70000"),
        (["--port", "-1"], "--port is -1"),
        (["--rate", "0"], "--rate is 0.0"),
        (["--rate", "nan"], "--rate is nan"),
        (["--stale-after", "0"], "--stale-after is 0.0"),
        (["--silent-after", "-2"], "--silent-after is -2.0"),
        (["--namespace", "carm a"], "--namespace is 'carm a'"),
        (["--node", "a/b"], "--node is 'a/b'"),
        (["--image", "x-ray"], "--image is 'x-ray'"),
        (["--view", "a/b"], "--view is 'a/b'"),
    ],
)
def test_unusable_options(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["view", "--no-browser", *options]) == cli.BAD_INPUT
    assert words in capsys.readouterr().err


def test_topics() -> None:
    from xray_registration.ros.view.topics import Topics

    plain, own = Topics(), Topics("or_1/carm", "reg", "/xa/image_raw")
    assert (plain.full_node, plain.full_image) == ("/registration_node", "/image")
    assert (plain.camera_info, plain.private("pose")) == ("/camera_info", "/registration_node/pose")
    assert plain.status_name == "registration_node: registration"
    assert (own.full_node, own.full_image) == ("/or_1/carm/reg", "/xa/image_raw")
    assert own.camera_info == "/xa/camera_info"
    assert Topics("a").full_image == "/a/image"
    second = Topics("a", view="view_1")
    assert (second.full_image, second.camera_info) == ("/a/view_1/image", "/a/view_1/camera_info")
    assert second.picture("overlay") == "/a/registration_node/view_1/overlay"
    assert second.private("markers") == "/a/registration_node/markers"
    assert plain.picture("drr") == "/registration_node/drr"
    assert own.status_name == "or_1/carm/reg: registration"
