"""
Where the command line and the flow begin.
"""

from pathlib import Path

from flows import orders, settings
from flows.narration.books import BookPlan
from flows.settings import BookSettings, Settings
from tests.bucket import Bucket


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


def test_a_book_in_object_storage_has_a_copy_of_its_own(bucket: Bucket, tmp_path: Path) -> None:
    """
    Its files are linked where the output folder is served, and what was asked for is found again by the folder of the copy.
    """
    (tmp_path / "book.md").write_text("# A Book\n\n## One\n\nHere it begins.")
    out, address = f"{bucket.uri}/out", "https://audio.example.org/b"
    given = {"book": str(tmp_path / "book.md"), "out": f"{out}/", "voice_id": "v", "served_at": address}
    groups = settings.checked(BookSettings, given).groups(BookPlan(), beside=str(tmp_path))

    order = orders.order(groups)

    assert order.mirror is not None
    assert (f"{out}/A Book", order.out) == (order.mirror.place.uri, order.mirror.folder)
    assert order.links is not None
    assert f"{address}/A%20Book/A%20Book.m4b" == order.links.to(order.out / "A Book.m4b")
    orders.remember(groups, order)
    folder, mirror = orders.made_at(f"{out}/A Book")
    assert (order.out, order.out) == (folder, mirror and mirror.folder)
    assert groups == orders.remembered(folder)
