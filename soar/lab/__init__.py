"""The lab: a small range on loopback with real HTTP effects and no credentials."""

from soar.lab.faults import Fault, Mode
from soar.lab.log import read_log
from soar.lab.server import LabServer, serve

__all__ = ["Fault", "LabServer", "Mode", "read_log", "serve"]
