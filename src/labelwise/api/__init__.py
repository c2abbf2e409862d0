"""For engineers who have a detector of their own: predictions in, queries out; answers in, targets with weights out.

    import labelwise

    project = labelwise.open("runs/mine", images="images", classes=["cat", "dog"])
    queries = project.ask(predictions, score="margin", budget=100)
    project.answer(queries[0], boxes=[(10, 20, 110, 220)], labels=["cat"])  # or people do, by `labelwise serve`
    targets = project.targets(predictions, policy="hard")

The project folder is the memory: the ledger has every query and answer, so a crash loses nothing, and `labelwise
serve`, `status`, `export` and `report` open the same folder. Scores, selectors and label policies are those of a run.
"""

from labelwise.api.entry import open as open  # noqa: A004 (the public name)
from labelwise.api.project import Project as Project
from labelwise.api.target import Target as Target
