"""The REST interface of a Label Studio server: make a project, send tasks, fetch answers page by page.

Plain requests of the standard library. The token is the legacy one (`Token ...`) or a personal access token (`Bearer
...`, which is exchanged for a short-lived one). Tested with the community server 1.23.2.

Fails when: the server speaks another version of the interface; the error then shows what it said.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from labelwise.types import LabelwiseError

FORMAT = "label_studio"
"""The format of its tasks and of its answers."""
PAGE = 100
TIMEOUT_S = 60.0
CHUNK = 500
"""Tasks in one request."""


class _SameServer(urllib.request.HTTPRedirectHandler):
    """Does not carry the token to another server."""

    def redirect_request(self, req: urllib.request.Request, *rest: Any) -> urllib.request.Request | None:
        there = urlsplit(str(rest[-1]))
        here = urlsplit(req.full_url)
        if (there.scheme, there.netloc) != (here.scheme, here.netloc):
            raise ValueError(f"it sends us on to {there.scheme}://{there.netloc}; give that address if you trust it")
        return super().redirect_request(req, *rest)


_OPENER = urllib.request.build_opener(_SameServer())


class Server:
    """A Label Studio server and who we are there."""

    def __init__(self, url: str, token: str, *, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise LabelwiseError(f"{url!r} is no address of a server; expected for example https://labels.example.org")
        if not token or not token.isascii() or not token.isprintable():
            raise LabelwiseError("the token of Label Studio is empty or has odd characters; copy it from your account")
        self.url, self.timeout_s = url.rstrip("/"), timeout_s
        self._authorization = f"Token {token}"
        if token.count(".") == 2:  # a personal access token is a JWT
            access = self._call("POST", "/api/token/refresh", {"refresh": token}, authorized=False)
            self._authorization = f"Bearer {access.get('access') if isinstance(access, dict) else ''}"

    def create(self, title: str, config: str) -> int:
        """Makes a project with a labelling configuration; its id."""
        made = self._call("POST", "/api/projects/", {"title": title[:50], "label_config": config})
        return int(self._field(made, "id", "/api/projects/"))

    def attach_images(self, project: int, folder: str) -> None:
        """Lets the project read images from a folder of the server, below its LOCAL_FILES_DOCUMENT_ROOT."""
        body = {"project": project, "path": folder, "use_blob_urls": True, "title": "labelwise"}
        self._call("POST", "/api/storages/localfiles/", body)

    def send(self, project: int, tasks: Sequence[dict[str, Any]]) -> list[int]:
        """Adds tasks in order, and shows their predictions to who answers; the ids of the tasks."""
        ids: list[int] = []
        for start in range(0, len(tasks), CHUNK):
            path = f"/api/projects/{project}/import?return_task_ids=true"
            made = self._call("POST", path, list(tasks[start : start + CHUNK]))
            ids += [int(k) for k in self._field(made, "task_ids", path)]
        if len(ids) != len(tasks):
            raise LabelwiseError(f"{self.url}: {len(tasks)} tasks were sent, {len(ids)} are there. Delete the project")
        versions = [made.get("model_version", "labelwise") for task in tasks for made in task.get("predictions", ())]
        if versions:
            self._call("PATCH", f"/api/projects/{project}/", {"model_version": versions[0]})
        return ids

    def fetch(self, project: int) -> list[dict[str, Any]]:
        """Every task of a project with its annotations, as its export holds them."""
        found: list[dict[str, Any]] = []
        page = 1
        while True:
            path = f"/api/tasks/?project={quote(str(project))}&page={page}&page_size={PAGE}&fields=all"
            got = self._call("GET", path)
            rows, total = self._field(got, "tasks", path), int(self._field(got, "total", path))
            found += [row for row in rows if isinstance(row, dict)]
            if len(found) >= total:
                return found
            if not rows:
                raise LabelwiseError(f"{self.url}: {total} tasks announced, {len(found)} came. Fetch them again")
            page += 1

    def _field(self, got: Any, key: str, path: str) -> Any:
        if not isinstance(got, dict) or key not in got:
            raise LabelwiseError(f"{self.url}{path}: no {key!r} in the answer {str(got)[:200]}")
        return got[key]

    def _call(self, method: str, path: str, body: Any = None, *, authorized: bool = True) -> Any:
        headers = {"Accept": "application/json"}
        if authorized:
            headers["Authorization"] = self._authorization
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        if content is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.url + path, content, headers, method=method)
        try:
            with _OPENER.open(request, timeout=self.timeout_s) as response:
                said = response.read()
        except urllib.error.HTTPError as error:
            with error:
                shown = error.read()[:500].decode("utf-8", "replace")
            raise LabelwiseError(
                f"{method} {self.url}{path}: status {error.code}: {shown}{_advice(error.code)}"
            ) from None
        except (OSError, ValueError) as error:
            raise LabelwiseError(f"cannot reach {self.url}: {error}. Is the server running there?") from None
        try:
            return json.loads(said) if said else None
        except ValueError:
            raise LabelwiseError(f"{self.url}{path}: no JSON came back; is this a Label Studio server?") from None


def _advice(status: int) -> str:
    return " Check the token; a legacy token must be allowed by the organisation" if status in (401, 403) else ""
