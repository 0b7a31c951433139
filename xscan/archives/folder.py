"""Take files from a local mirror of an archive."""

from __future__ import annotations

from pathlib import Path

from xscan.archives.offer import Delivery, Offer, SavedFile
from xscan.archives.verify import check_fits
from xscan.errors import ArchiveError, ConfigError, DataError, Reason
from xscan.missions.xmm.products import product_of

__all__ = ["Folder"]


class Folder:
    """A folder of ``<obsid>/`` or ``<obsid>/pps/``; its files are linked to, not copied.

    Parameters
    ----------
    where : str
    """

    name = "folder"

    def __init__(self, where: str) -> None:
        self.where = where

    def offers(self, obsid: str) -> tuple[Offer, ...]:
        """Return one offer per existing file that xscan uses.

        Raises
        ------
        ConfigError
            If the folder of the mirror does not exist.
        """
        root = Path(self.where)
        if not root.is_dir():
            raise ConfigError(f"{root}: no such folder; --from folder:DIR names one that holds <obsid>/ folders")
        places = [root / obsid, *(root / obsid / name for name in ("pps", "PPS"))]
        paths = {path.name: path for place in places if place.is_dir() for path in sorted(place.iterdir())}
        return tuple(
            Offer(name, obsid, product, str(path.absolute()))
            for name, path in sorted(paths.items())
            if path.is_file() and (product := product_of(name, obsid))
        )

    def take(self, offer: Offer, into: Path) -> Delivery:
        """Link to the file of an offer, after reading it to its end."""
        path = Path(offer.place)
        try:
            check_fits(path)
        except DataError as error:
            raise ArchiveError(Reason.BAD_PRODUCT, f"{offer}: {error}") from None
        link = into / path.name
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        return Delivery((SavedFile(path.name, path.stat().st_size),))

    def unchanged(self, offer: Offer, files: tuple[SavedFile, ...]) -> bool:
        """Return False: links are always made anew, and each file is read to its end."""
        del offer, files
        return False

    def why_nothing(self, obsid: str) -> Reason:
        """Return why there is no event list: the observation may have no folder at all."""
        return Reason.NO_PRODUCTS if (Path(self.where) / obsid).is_dir() else Reason.NO_SUCH_OBSERVATION
