"""
Where the command line and the flow begin.
"""

from pathlib import Path

from flows import orders, settings
from flows.settings import Settings


def test_the_flow_goes_by_what_its_command_has_read(tmp_path: Path) -> None:
    """
    The scripts are read once in a command, and again only for other parameters.
    """
    script = tmp_path / "scripts" / "one.txt"
    script.parent.mkdir()
    script.write_text("One.")
    given = {"scripts": str(script.parent), "out": str(tmp_path / "out"), "voice_id": "v"}
    groups = settings.checked(Settings, given).groups()
    ahead = orders.order_ahead(groups)
    script.write_text("Two.")

    assert ahead is orders.order(settings.checked(Settings, given).groups())
    other = orders.order(settings.checked(Settings, given | {"segment_bytes": 300}).groups())
    assert ["Two."] == [segment.text for segment in other.survey.readings[0].segments]
    assert ["Two."] == [segment.text for segment in orders.order_ahead(groups).survey.readings[0].segments]
