"""Names of the topics that the view listens to."""

from __future__ import annotations

import re
from dataclasses import dataclass

from xray_registration.errors import InputError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")


@dataclass(frozen=True)
class Topics:
    """Of one registration node.

    Attributes:
        namespace: of the node, without slashes at its ends; empty = the root.
        node: its name.
        image: relative to the namespace, or absolute; camera_info is beside it. Empty = ``image``,
            in the folder of the view.
        view: which of several; empty = the node has one.
    """

    namespace: str = ""
    node: str = "registration_node"
    image: str = ""
    view: str = ""

    def __post_init__(self) -> None:
        if self.namespace and not _NAME.fullmatch(self.namespace):
            raise InputError(f"--namespace is '{self.namespace}'; expected e.g. carm_a or or_1/b")
        if not _NAME.fullmatch(self.node) or "/" in self.node:
            raise InputError(f"--node is '{self.node}'; expected a node's name without namespace")
        if self.view and (not _NAME.fullmatch(self.view) or "/" in self.view):
            raise InputError(f"--view is '{self.view}'; expected a name in the node's 'views'")
        if self.image and not _NAME.fullmatch(self.image.removeprefix("/")):
            raise InputError(f"--image is '{self.image}'; expected e.g. image or /xa/image")

    @property
    def full_node(self) -> str:
        """Name of the node with its namespace."""
        return f"/{self.namespace}/{self.node}" if self.namespace else f"/{self.node}"

    @property
    def full_image(self) -> str:
        """The X-ray images."""
        if self.image.startswith("/"):
            return self.image
        image = self.image or self._of_view("image")
        return f"/{self.namespace}/{image}" if self.namespace else f"/{image}"

    @property
    def camera_info(self) -> str:
        """Beside the images, as image_transport has it."""
        return f"{self.full_image.rpartition('/')[0]}/camera_info"

    @property
    def status_name(self) -> str:
        """Of the node's status on /diagnostics."""
        return f"{self.full_node.lstrip('/')}: registration"

    def private(self, name: str) -> str:
        """``~/name`` of the node."""
        return f"{self.full_node}/{name}"

    def picture(self, name: str) -> str:
        """``~/name``, of the view when there are several."""
        return self.private(self._of_view(name))

    def _of_view(self, name: str) -> str:
        return f"{self.view}/{name}" if self.view else name
