"""A stand-in for the Hugging Face hub, in memory: the part of its HTTP API that huggingface_hub uses for models.

It is written from what huggingface_hub sends and reads, and is not the hub: it has no Xet storage, no limits, and one
user, whose token is TOKEN. JSON and Markdown are committed as they are, and all other files by Git LFS.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_anna"
USER = "anna"


class Hub:
    """Repositories and what was asked; `serve` makes it answer at `url`."""

    def __init__(self):
        self.url = ""
        self.requests: list[str] = []
        self.private: dict[str, bool] = {}
        self.commits: dict[str, list[dict[str, bytes]]] = {}  # of every repository: path → content, the newest last
        self.large: dict[str, bytes] = {}  # by SHA-256
        self.cut = 0  # bytes that downloads lack at their end

    def files(self, repo: str) -> dict[str, bytes]:
        """The newest commit."""
        return self.commits[repo][-1]

    def change(self, repo: str, **files: bytes | None) -> None:
        """Another commit, with other content of some files; None deletes."""
        content = self.files(repo) | files
        self.commits[repo].append({name: data for name, data in content.items() if data is not None})

    @contextlib.contextmanager
    def serve(self):
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def sha(self, repo: str, revision: str) -> str | None:
        """The commit of a branch (main alone), or of a commit."""
        shas = [_sha1(f"{repo} {number}".encode()) for number in range(len(self.commits[repo]))]
        return shas[-1] if revision == "main" else revision if revision in shas else None

    def at(self, repo: str, sha: str) -> dict[str, bytes]:
        return next(f for n, f in enumerate(self.commits[repo]) if _sha1(f"{repo} {n}".encode()) == sha)


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _is_large(name: str) -> bool:
    return not name.endswith((".json", ".md", ".gitattributes"))


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self._answer()

    do_GET = do_POST = do_PUT = do_HEAD

    def _answer(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        body = self._body()
        for method, pattern, answer in (
            ("POST", r"/api/repos/create", self._create),
            ("POST", r"/api/validate-yaml", lambda body: self._json({"errors": [], "warnings": []})),
            ("POST", r"/api/models/([^/]+/[^/]+)/preupload/main", self._preupload),
            ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self._batch),
            ("PUT", r"/lfs/([0-9a-f]{64})", self._upload),
            ("POST", r"/api/models/([^/]+/[^/]+)/commit/main", self._commit),
            ("GET", r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self._info),
            ("GET", r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", self._tree),
            ("(GET|HEAD)", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._file),
        ):
            found = re.fullmatch(pattern, path)
            if re.fullmatch(method, self.command) and found:
                return answer(body, *found.groups())
        return self._error(404, "", "no such address")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, status, data=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _json(self, value, status=200, **headers):
        self._send(status, json.dumps(value).encode(), Content_Type="application/json", **headers)

    def _error(self, status, code, message):
        self._json({"error": message}, status, X_Error_Code=code, X_Error_Message=message)

    @property
    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _may_write(self, repo) -> bool:
        if not self._known:
            self._error(401, "", "Invalid credentials in Authorization header")
        elif not repo.startswith(f"{USER}/"):
            self._error(403, "", "You have no write access")
        else:
            return True
        return False

    def _commit_of(self, repo, revision):
        """The commit, or None if an error was answered: the hub hides private repositories as if there were none."""
        if repo not in self.hub.commits or (self.hub.private[repo] and not self._known):
            self._error(404 if self._known else 401, "RepoNotFound", "Repository not found")
        elif (sha := self.hub.sha(repo, revision)) is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return sha
        return None

    def _create(self, body):
        asked = json.loads(body)
        repo = f"{asked.get('organization') or USER}/{asked['name']}"
        if not self._may_write(repo):
            return
        if repo in self.hub.commits:
            self._json({"error": "You already created this model repo", "url": f"{self.hub.url}/{repo}"}, 409)
            return
        self.hub.private[repo] = asked.get("visibility") == "private" or asked.get("private") is True
        self.hub.commits[repo] = [{".gitattributes": b"*.safetensors filter=lfs"}]
        self._json({"url": f"{self.hub.url}/{repo}"})

    def _preupload(self, body, repo):
        if self._may_write(repo):
            files = json.loads(body)["files"]
            modes = [(f["path"], "lfs" if _is_large(f["path"]) else "regular") for f in files]
            self._json({"files": [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes]})

    def _batch(self, body, repo):
        if self._may_write(repo):
            objects = [
                {**o, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            self._json({"transfer": "basic", "objects": objects})

    def _upload(self, body, oid):
        if _sha256(body) != oid:
            self._error(400, "", "another checksum")
            return
        self.hub.large[oid] = body
        self._send(200)

    def _commit(self, body, repo):
        if not self._may_write(repo):
            return
        files = dict(self.hub.files(repo))
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            match item["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.large[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        self.hub.commits[repo].append(files)
        sha = self.hub.sha(repo, "main")
        self._json({"commitUrl": f"{self.hub.url}/{repo}/commit/{sha}", "commitOid": sha, "success": True})

    def _info(self, body, repo, revision=None):
        if sha := self._commit_of(repo, revision or "main"):
            names = [{"rfilename": name} for name in self.hub.at(repo, sha)]
            self._json({"id": repo, "modelId": repo, "sha": sha, "private": self.hub.private[repo], "siblings": names})

    def _tree(self, body, repo, revision):
        if sha := self._commit_of(repo, revision):
            self._json([self._entry(name, data) for name, data in self.hub.at(repo, sha).items()])

    def _entry(self, name, data):
        entry = {"type": "file", "path": name, "size": len(data), "oid": _sha1(b"blob %d\0" % len(data) + data)}
        large = {"oid": _sha256(data), "size": len(data), "pointerSize": 130}
        return entry | ({"lfs": large} if _is_large(name) else {})

    def _file(self, body, repo, revision, name):
        if not (sha := self._commit_of(repo, revision)):
            return
        if name not in (files := self.hub.at(repo, sha)):
            self._error(404, "EntryNotFound", "Entry not found")
            return
        data = files[name]
        tag = _sha256(data) if _is_large(name) else self._entry(name, data)["oid"]
        headers = {"ETag": f'"{tag}"', "X_Repo_Commit": sha}
        if self.command == "HEAD":
            self._send(200, data, **headers)
            return
        start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") : -1])
        end = max(start, len(data) - self.hub.cut)
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(206 if start else 200, data[start:end], **headers)
