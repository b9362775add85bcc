"""The server's settings, from `FRAUDLINE_*` variables."""

import ipaddress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.registry.api_keys import KEYS_KEY
from processing.errors import BadInput
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home

PREFIX = "FRAUDLINE_"


class Settings(BaseSettings):
    """The server's settings. `read_settings` creates them, with errors a user can act on.

    `home` is the home's full address (file:///... or s3://...). A relative one is resolved once, here, so that
    everything derived from it refers to the same place.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    home: str = Field("./home", min_length=1)
    api_keys: SecretStr | None = None  # a keys document (pipeline.registry.api_keys); else keys.json of a local home
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)  # 0: any free port
    workers: int = Field(1, ge=1, le=256)
    follow_seconds: float = Field(1.0, gt=0, le=3600)
    store_timeout_seconds: float = Field(2.0, gt=0, le=60)
    without_store: Literal["refuse", "score"] = "refuse"  # while the online store is unavailable
    models: Literal["any", "packed"] = "any"  # packed: never load a joblib model, which would run as code
    embedded_metrics_seconds: float = Field(0.0, ge=0, le=3600)  # between lines of metrics for CloudWatch; 0: none
    most_bytes: int = Field(65_536, ge=1024)  # of a request body
    requests_per_second: float = Field(1000.0, gt=0)  # per key without its own rate, in each process
    batch_rows: int = Field(10_000, ge=1, le=1_000_000)
    batch_bytes: int = Field(8 << 20, ge=1, le=1 << 30)
    batches: int = Field(8, ge=1, le=1000)  # in progress at once, in each process
    connections: int = Field(1000, ge=1, le=100_000)  # open at once, in each process
    head_seconds: float = Field(10.0, gt=0, le=3600)  # for the request line and headers to arrive
    body_seconds: float = Field(60.0, gt=0, le=3600)  # for the body to arrive
    answer_seconds: float = Field(60.0, gt=0, le=3600)  # in which a caller must fetch more of the response
    idle_seconds: float = Field(75.0, gt=0, le=3600)  # between requests; longer than a load balancer's (60 s)

    @field_validator("home")
    @classmethod
    def _resolve(cls, home: str) -> str:
        return open_home(home).url

    @field_validator("host")
    @classmethod
    def _check_loopback_without_keys(cls, host: str, settings: ValidationInfo) -> str:
        if "home" not in settings.data:  # already refused
            return host
        has_keys = settings.data.get("api_keys") is not None
        file = keys_file(open_home(settings.data["home"]))
        if not (has_keys or (file is not None and is_there(file)) or is_loopback(host)):
            raise ValueError(
                "without keys the API serves this machine only: create a key with `fraudline keys add`, "
                "or use 127.0.0.1, ::1 or localhost"
            )
        return host

    def variables(self) -> dict[str, str]:
        """The settings as environment variables, to pass them on to another process."""
        values = {name: value for name, value in self.model_dump().items() if value is not None}
        if self.api_keys is not None:
            values["api_keys"] = self.api_keys.get_secret_value()
        return {PREFIX + name.upper(): str(value) for name, value in values.items()}


def read_settings(**values: Any) -> Settings:
    """The settings: the given values, else the environment, else the defaults. Raises BadInput naming the variable."""
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name, message = str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
        raise BadInput(f"{PREFIX}{name.upper()} is {first['input']!r}: {message}") from None


def keys_file(home: Home) -> Path | None:
    """The keys file of a local home; None for any other home, whose keys come from FRAUDLINE_API_KEYS only."""
    return home.folder / KEYS_KEY if isinstance(home, LocalHome) else None


def is_there(file: Path) -> bool:
    """Whether the path exists, even as a broken link: unreadable keys are not the same as no keys.

    Raises PermissionError if that cannot be determined.
    """
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
