"""The composition root: plain constructor calls, the one place where everything meets."""

from soar.service.assembly import Service, assemble, build_registry, person_of, starters
from soar.service.doors import Doors
from soar.service.keys import read_key
from soar.service.running import Running

__all__ = ["Doors", "Running", "Service", "assemble", "build_registry", "person_of", "read_key", "starters"]
