"""The path of a request as the router sees it."""

from starlette.types import Scope


def path_of(scope: Scope) -> str:
    """The path without the prefix that a host mounted the service at."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :]
    return path
