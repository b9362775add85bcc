"""The server's settings, from `FRAUDLINE_*` variables."""

import ipaddress
from typing import Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from processing.errors import BadInput

PREFIX = "FRAUDLINE_"


class Settings(BaseSettings):
    """What the server is told. `read_settings` makes one, with errors a user can act on."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    home: str = Field("./home", min_length=1)
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)  # 0: any free one
    workers: int = Field(1, ge=1, le=256)
    follow_seconds: float = Field(1.0, gt=0, le=3600)
    store_timeout_seconds: float = Field(2.0, gt=0, le=60)

    @field_validator("host")
    @classmethod
    def _loopback_only(cls, host: str) -> str:
        if not is_loopback(host):
            raise ValueError(
                "the API has no keys, so it answers this machine only: use 127.0.0.1, ::1 or localhost, "
                "and a proxy that checks who is calling in front of it"
            )
        return host

    def variables(self) -> dict[str, str]:
        """The settings as environment variables, for a process that is to have the same ones."""
        return {PREFIX + name.upper(): str(value) for name, value in self.model_dump().items()}


def read_settings(**given: Any) -> Settings:
    """The settings: those given, else from the environment, else the defaults. Raises BadInput naming the variable."""
    try:
        return Settings(**given)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = str(wrong["loc"][0])
        said = wrong["msg"].removeprefix("Value error, ")
        raise BadInput(f"{PREFIX}{name.upper()} is {wrong['input']!r}: {said}") from None


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
