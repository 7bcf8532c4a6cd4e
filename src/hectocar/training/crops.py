"""The crops of a whole training, by threads or by processes: the same bits, in the same order."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hectocar.config.schema import Config, DataConfig
from hectocar.photos.pool import PhotoBatch, count_workers, raise_unread
from hectocar.photos.process_pool import ProcessPool, can_share_memory
from hectocar.progress import Progress
from hectocar.training.crop_worker import pack_settings
from hectocar.training.loader import iter_training_batches

_WORKER = "hectocar.training.crop_worker"
_MAX_THREADS = 4
"""Cores that threads keep busy: a photograph holds the interpreter's lock for a part of its time (docs/decisions.md)."""


def choose_loader(data: DataConfig, device_type: str) -> Literal["threads", "processes"]:
    """``data.loader``; auto takes processes where more cores decode for a GPU than the interpreter's lock can feed."""
    if data.loader != "auto":
        return data.loader
    many = count_workers(data.num_workers) > _MAX_THREADS
    return "processes" if device_type != "cpu" and many and can_share_memory() else "threads"


class TrainingCrops:
    """Loads the batches of each epoch; processes start with the first and serve all of them.

    Args:
        files: By row.
        config: The whole configuration.
        device_type: Of the device that trains.
        progress: Is told where processes were wanted and cannot be.
    """

    def __init__(self, files: Sequence[Path], config: Config, device_type: str, progress: Progress) -> None:
        self._files, self._config, self._progress = files, config, progress
        self.loader = choose_loader(config.data, device_type)
        self.pool: ProcessPool | None = None

    def iter_batches(self, batches: Sequence[NDArray[np.int64]], size_px: int, epoch: int) -> Iterator[PhotoBatch]:
        """Yields the crops of each batch of samples, in order; valid until the next batch is asked for.

        Raises:
            DataError: A photograph that was whole when the manifest was made is damaged now; it is named.
            HectocarError: A decoding process has died.
        """
        config = self._config
        pool = self._find_pool(max(map(len, batches), default=0), size_px) if self.loader == "processes" else None
        if pool:
            return raise_unread(pool.iter_decoded(batches, size_px, epoch), self._files)
        return iter_training_batches(
            self._files, batches, size_px, augment=config.augment, data=config.data, seed=config.training.seed, epoch=epoch
        )

    def _find_pool(self, num_images: int, size_px: int) -> ProcessPool | None:
        """The processes with room for such batches; None, said once, where the system refuses them."""
        config, files = self._config, self._files
        try:
            if self.pool is None:
                settings = pack_settings(files, config.augment, config.data, config.training.seed)
                num_workers = count_workers(config.data.num_workers)
                self.pool = ProcessPool(_WORKER, settings, num_workers, lambda row: files[row % len(files)])
            self.pool.make_room(num_images, size_px)
        except OSError as error:
            self.close()
            self.loader = "threads"
            self._progress.note(f"photographs are decoded by threads: processes are refused here ({error})")
            return None
        return self.pool

    def close(self) -> None:
        """Ends the processes; twice does no harm. After an error they end when nobody holds these crops any more."""
        if self.pool:
            self.pool.close()
