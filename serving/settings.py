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
    """What the server is told. `read_settings` makes one, with errors a user can act on.

    `home` is the home's full address (file:///... or s3://...), whatever was given: it is resolved here, once, so that
    all that is found from it lies in the same place.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    home: str = Field("./home", min_length=1)
    api_keys: SecretStr | None = (
        None  # a keys document (see pipeline.registry.api_keys); else keys.json in a local home
    )
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)  # 0: any free one
    workers: int = Field(1, ge=1, le=256)
    follow_seconds: float = Field(1.0, gt=0, le=3600)
    store_timeout_seconds: float = Field(2.0, gt=0, le=60)
    without_store: Literal["refuse", "score"] = "refuse"  # what a transaction gets while the store does not answer
    models: Literal["any", "packed"] = "any"  # packed: no joblib model, which would run as code, is loaded
    embedded_metrics_seconds: float = Field(0.0, ge=0, le=3600)  # between log lines of metrics for CloudWatch; 0: none
    most_bytes: int = Field(65_536, ge=1024)  # of a request's body
    requests_per_second: float = Field(1000.0, gt=0)  # for each key that has no limit of its own, in each process
    batch_rows: int = Field(10_000, ge=1, le=1_000_000)
    batch_bytes: int = Field(8 << 20, ge=1, le=1 << 30)
    batches: int = Field(8, ge=1, le=1000)  # under way at once, in each process
    connections: int = Field(1000, ge=1, le=100_000)  # at once, in each process
    head_seconds: float = Field(10.0, gt=0, le=3600)  # for a request's line and headers to come
    body_seconds: float = Field(60.0, gt=0, le=3600)  # for its body to come
    answer_seconds: float = Field(60.0, gt=0, le=3600)  # in which a caller has to fetch more of the answer
    idle_seconds: float = Field(75.0, gt=0, le=3600)  # between requests; longer than a load balancer's (60 s)

    @field_validator("home")
    @classmethod
    def _resolved(cls, home: str) -> str:
        return open_home(home).url

    @field_validator("host")
    @classmethod
    def _loopback_unless_keys(cls, host: str, others: ValidationInfo) -> str:
        if "home" not in others.data:  # it is refused already
            return host
        keys = others.data.get("api_keys") is not None
        file = keys_file(open_home(others.data["home"]))
        if not (keys or (file is not None and is_there(file)) or is_loopback(host)):
            raise ValueError(
                "without keys the API answers this machine only: make one with `fraudline keys add`, "
                "or use 127.0.0.1, ::1 or localhost"
            )
        return host

    def variables(self) -> dict[str, str]:
        """The settings as environment variables, for a process that is to have the same ones."""
        told = {name: value for name, value in self.model_dump().items() if value is not None}
        if self.api_keys is not None:
            told["api_keys"] = self.api_keys.get_secret_value()
        return {PREFIX + name.upper(): str(value) for name, value in told.items()}


def read_settings(**given: Any) -> Settings:
    """The settings: those given, else from the environment, else the defaults. Raises BadInput naming the variable."""
    try:
        return Settings(**given)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = str(wrong["loc"][0])
        said = wrong["msg"].removeprefix("Value error, ")
        raise BadInput(f"{PREFIX}{name.upper()} is {wrong['input']!r}: {said}") from None


def keys_file(home: Home) -> Path | None:
    """Where the keys of a local home are; None for a home elsewhere, which has them in FRAUDLINE_API_KEYS alone."""
    return home.folder / KEYS_KEY if isinstance(home, LocalHome) else None


def is_there(file: Path) -> bool:
    """Whether anything has this name, even a link to nothing: keys that cannot be read are not the same as no keys.

    Raises PermissionError where that cannot be known.
    """
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
