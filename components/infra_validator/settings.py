"""What InfraValidator obeys."""

from __future__ import annotations

from schema.config import InfraValidation
from schema.config import Settings as Base


class Settings(Base):
    """Which server is started and what it must reach."""

    infra_validator: InfraValidation
