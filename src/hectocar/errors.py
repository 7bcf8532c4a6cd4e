"""The errors that a user can cause. Each message says what is wrong, where, what is allowed and what to do."""


class HectocarError(Exception):
    """Base of every error that is the input's fault; the command line prints it and exits with code 2."""


class ConfigError(HectocarError):
    """The configuration, a preset or a command-line argument is wrong."""


class DataError(HectocarError):
    """A photograph, a data folder or a table is wrong."""


class ArtifactError(HectocarError):
    """A run, checkpoint, bundle or submission is missing, damaged, foreign or does not fit its inputs."""


class WriteError(ArtifactError):
    """The disk, or whoever rules over it, refuses to take a file; what stood there before is kept."""
