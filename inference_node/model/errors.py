"""What may be wrong with a model folder. Each text names the file and the way out."""

from inference_node.errors import Invalid, NotFound


class ModelNotFound(NotFound):
    """The folder, or a file that it must hold, does not exist."""


class ModelInvalid(Invalid):
    """A file of the model is damaged or contradicts another."""


class ModelUnsupported(Invalid):
    """The model is whole, but this engine has no forward for it."""


class PrecisionUnsupported(Invalid):
    """This machine or this version has no arithmetic for that precision; the text says which it has."""
