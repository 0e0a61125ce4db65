"""The lab: starts, supervises and stops the parts, and takes a plugin through the article's ten steps.

>>> from labkit.lab import Lab
>>> lab = Lab()
>>> lab.up().state
'up'
"""

from labkit.lab.chain import Link, check, steps_of
from labkit.lab.delivery import apply_manifest, build_image, compile_plugin, default_reference, pinned, push_image
from labkit.lab.errors import ChainBroken, DemoFailed, LabNotRunning, PartFailed, PortTaken
from labkit.lab.lab import Lab, PartStatus, Progress, Status
from labkit.lab.load import Answer, Load
from labkit.lab.settings import Layout, Ports, default_home

__all__ = [
    "Answer",
    "ChainBroken",
    "DemoFailed",
    "Lab",
    "LabNotRunning",
    "Layout",
    "Link",
    "Load",
    "PartFailed",
    "PartStatus",
    "PortTaken",
    "Ports",
    "Progress",
    "Status",
    "apply_manifest",
    "build_image",
    "check",
    "compile_plugin",
    "default_home",
    "default_reference",
    "pinned",
    "push_image",
    "steps_of",
]
