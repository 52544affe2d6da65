"""Extensions that other installed distributions bring, by entry point: ``autokv.readers`` and its like.

A distribution names them in its own metadata, and nothing of AutoKV is changed for them::

    [project.entry-points."autokv.readers"]
    mylog = "my_package.mylog:MYLOG"
"""

from __future__ import annotations

from importlib.metadata import entry_points

from autokv.errors import PluginError


def plugins(group: str) -> dict[str, object]:
    """What installed distributions register under ``group``: each name, in alphabetical order, to its object.

    Nothing is cached: the objects are those of the modules that the entry points name.

    Raises:
        PluginError: one cannot be loaded, or two distributions use one name for different things.
    """
    found: dict[str, object] = {}
    places: dict[str, str] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        owner = point.dist.name if point.dist is not None else point.value
        if point.name in places:
            # A distribution that is seen twice, as an editable install in its own folder is, registers one thing.
            if places[point.name] == point.value:
                continue
            raise PluginError(
                f"is registered as {places[point.name]} and as {point.value}",
                field=f"{group}: {point.name}",
                remedy=f"uninstall one of the two (`pip uninstall {owner}`)",
            )
        try:
            found[point.name] = point.load()
        except Exception as error:
            raise PluginError(
                f"{point.value} cannot be loaded ({type(error).__name__}: {str(error)[:200]})",
                field=f"{group}: {point.name}",
                remedy=f"mend or uninstall it (`pip uninstall {owner}`)",
            ) from error
        places[point.name] = point.value
    return found
