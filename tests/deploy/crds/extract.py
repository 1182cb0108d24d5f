"""Cuts the schemas that tests need out of CustomResourceDefinitions. Run by hand to renew them.

    python tests/deploy/crds/extract.py FOLDER

FOLDER holds the projects' own YAML files; README.md says which. Of each the stored version is kept,
as JSON and without its prose: an eighth of the size, and read in a twentieth of the time.
"""

import json
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).parent


def main(folder: Path) -> None:
    for path in sorted(folder.glob("*.yaml")):
        definition = yaml.load(path.read_text(), yaml.CSafeLoader)["spec"]
        version = next(each for each in definition["versions"] if each["storage"])
        kind = definition["names"]["kind"]
        kept = {
            "apiVersion": f"{definition['group']}/{version['name']}",
            "kind": kind,
            "schema": without_prose(version["schema"]["openAPIV3Schema"]),
        }
        (HERE / f"{kind}.json").write_text(json.dumps(kept, separators=(",", ":")) + "\n")


def without_prose(schema: object, *, is_names: bool = False) -> object:
    """The same without descriptions; a property may be called `description` and stays."""
    if isinstance(schema, list):
        return [without_prose(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: without_prose(value, is_names=name == "properties" and not is_names)
        for name, value in schema.items()
        if is_names or name != "description"
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
