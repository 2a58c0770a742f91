"""The error tree: everything the package raises on purpose is a `SgacodecError`."""

from __future__ import annotations


class SgacodecError(Exception):
    """Base of all errors that sgacodec raises on purpose."""


class FormatError(SgacodecError, ValueError):
    """The bytes are not a valid .sga file.

    Args:
        message: One sentence: what is wrong and what to do.
        offset: Byte offset in the file at which the fault was noticed, if known.
        section: Name of the part of the file (format_spec.md names them), if known.
    """

    def __init__(self, message: str, *, offset: int | None = None, section: str | None = None) -> None:
        """Append the place of the fault to the message."""
        self.offset = offset
        self.section = section
        place = ", ".join(
            ([f"in {section}"] if section is not None else []) + ([f"at byte {offset}"] if offset is not None else [])
        )
        super().__init__(f"{message} ({place})" if place else message)


class BadMagicError(FormatError):
    """The first bytes are not those of an .sga file."""


class TruncatedError(FormatError):
    """The file ends before its header says it does."""


class ChecksumError(FormatError):
    """A CRC-32 does not match: the file, or the picture decoded from it, is not what was written."""


class LimitError(FormatError):
    """A size in the file is over the limit; nothing was allocated."""


class CorruptStreamError(FormatError):
    """A field or an entropy-coded stream has a value that no encoder writes."""


class UnsupportedVersionError(SgacodecError):
    """The file needs a newer sgacodec."""


class ModelError(SgacodecError):
    """A model file cannot be used."""


class ModelNotFoundError(ModelError):
    """No model with the asked id or name is at hand."""


class ModelMismatchError(ModelError):
    """The model does not fit the file or the request."""


class EncodeError(SgacodecError):
    """Encoding failed."""


class OptionError(EncodeError, ValueError):
    """An option, or a combination of options, that does not exist."""


class InvalidImageError(EncodeError, ValueError):
    """The input is not an image that can be encoded."""


class SymbolRangeError(EncodeError):
    """A latent is too large for the format."""


class TargetNotReachedError(EncodeError):
    """The asked quality, rate or exactness cannot be reached."""


class TrainError(SgacodecError):
    """Training cannot start, or cannot go on."""


def one_line(err: Exception) -> str:
    """Return what an error of another library says, or else its kind, in one line."""
    return " ".join(str(err).split()) or type(err).__name__
