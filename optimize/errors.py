"""What preparing a model can refuse. Every message says what is wrong and what to do about it.

* ModelError
  + ModelRefused (ValueError): the model or the way it was asked for is wrong
    - SourceNotFound: nothing is there under this path or id
    - InvalidModelFolder: no readable config.json, no weights, or no tokenizer
    - UnsafeWeights: the weights are pickles, which can run code when they are loaded
    - CorruptModel: a file is cut short or is not in the format it claims
    - UnsupportedModelFormat: an architecture, a setting or a tensor type that cannot be served
    - RemoteCodeRefused: the model brings its own Python code and nobody said to trust it
    - InvalidPlacement: an unknown dtype or device, or a device this machine lacks
    - OnnxUnsupported: ONNX Runtime cannot serve this model here; torch may well do
    - InvalidCalibration: the calibration text is missing or too short
  + NotEnoughMemory: the weights do not fit into the device's free memory
  + HubUnavailable: the model hub cannot be reached and the model is not on this machine
  + CacheUnusable: the cache folder cannot be written, or its disk is full
  + ConversionFailed: a GGUF file looked right and could not be converted
  + LoadingFailed: a model folder looked right and could not be loaded
  + VariantDiffers: a variant was made and does not give its original's results
"""


class ModelError(Exception):
    """Base of everything `optimize` raises on purpose."""


class ModelRefused(ModelError, ValueError):
    """The caller's choice is at fault; asking again will not help."""


class SourceNotFound(ModelRefused):
    """No file, folder, installed package or hub model answers to this source."""


class InvalidModelFolder(ModelRefused):
    """A folder that lacks a part every transformers model needs."""


class UnsafeWeights(ModelRefused):
    """Weights exist only as pickles; loading one can run any code, so it is never done."""


class CorruptModel(ModelRefused):
    """A model file is truncated or is not in the format it claims to be."""


class UnsupportedModelFormat(ModelRefused):
    """Not a decoder-only language model that transformers can build from these files."""


class RemoteCodeRefused(ModelRefused):
    """The model needs Python code of its own and `trust_remote_code` is off."""


class InvalidPlacement(ModelRefused):
    """An unknown dtype or device name, or a device that is not there."""


class NotEnoughMemory(ModelError):
    """The weights and a working margin exceed the free memory of the device."""


class HubUnavailable(ModelError):
    """The hub did not answer and the model is not complete in the local hub cache."""


class CacheUnusable(ModelError):
    """Converted models cannot be written where the cache folder is."""


class ConversionFailed(ModelError):
    """Reading the weights out of a GGUF file failed; nothing was left in the cache."""


class LoadingFailed(ModelError):
    """Transformers could not build the model or its tokenizer from its folder."""


class VariantDiffers(ModelError):
    """A variant that was just made gives other results than its original; it was not kept."""


class OnnxUnsupported(ModelRefused):
    """The model cannot be exported to a graph that gives its results; torch may serve it."""


class InvalidCalibration(ModelRefused):
    """The text to calibrate with cannot be read or has too few tokens."""
