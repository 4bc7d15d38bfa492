"""HTTP on the loopback interface: requests -> analyses and files, for one browser page that knows the token.

Who may ask: Host must name this machine, so that no name that resolves to it (DNS rebinding) gets an answer; Origin, where
a browser sends one, must be the page's own; and every /api request bears the token. The page itself holds nothing of the
user's. Its token comes in the address behind #, which browsers keep to themselves, and the page forgets it there.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
import socketserver
import sys
import threading
import traceback
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from .. import __version__, zoo
from ..drawing.page import ASSETS, page
from ..errors import NetError
from ..graph import Shape
from ..text import format_message
from .analysis import Analyst, State, analyse
from .folder import MAX_BYTES, Changed, Content, Folder, Forbidden, Missing
from .vocabulary import vocabulary

HOSTS = ("127.0.0.1", "localhost", "[::1]")
MAX_BODY = 3 * MAX_BYTES  # a text as JSON, where a line end takes two characters
WAIT = 20  # seconds that a question after a file's changes stays open
STATUS: dict[type[NetError], int] = {Forbidden: 403, Missing: 404, Changed: 409}
PAGE = {"/": ("editor.html", "text/html"), "/editor.js": ("editor.js", "text/javascript")}
PAGE["/editor.css"] = ("editor.css", "text/css")


class Refused(Exception):
    """A request that gets no answer but a status."""

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        super().__init__(why)


class Editor(ThreadingHTTPServer):
    """The server for one folder. `url` opens the page; `visit_url` does so once, for a browser's command line."""

    daemon_threads = True

    def __init__(self, folder: Folder, state: State, port: int = 0) -> None:
        """Raises: NetError when the port cannot be had."""
        self.folder, self.state = folder, state
        self.token, self.visit = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self.analyst, self.stop = Analyst(), threading.Event()
        self.lock = threading.Lock()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as e:
            what = f"port {port} cannot be used: {getattr(e, 'strerror', None) or e}"
            raise NetError(what, hint="leave --port out, and a free one is taken") from None

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own asks the name service who 127.0.0.1 is

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    @property
    def url(self) -> str:
        return f"{self.address}#token={self.token}"

    @property
    def visit_url(self) -> str:
        """The address with a word that is good for one visit: other users of this machine may read a command line."""
        return f"{self.address}#visit={self.visit}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a page that goes away in the middle of an answer is no fault."""

    def close(self) -> None:
        """Stop answering, those that wait included."""
        self.stop.set()
        self.server_close()

    def enter(self, visit: str) -> str | None:
        """The token for the word of the first visit, once."""
        with self.lock:
            good = bool(self.visit) and _same(visit, self.visit)
            self.visit = "" if good else self.visit
        return self.token if good else None

    # --- what the page asks; each takes the request's values and returns values for JSON ---

    def start(self, ask: _Values) -> dict[str, Any]:
        names, more = self.folder.names()
        return {
            "version": __version__,
            "folder": str(self.folder.root),
            "only": self.folder.only,
            "files": names,
            "more": more,
            "presets": _presets(),
            "state": {
                "phase": self.state.phase,
                "level": self.state.level,
                "stages": list(self.state.stages),
                "inputs": {name: list(shape) for name, shape in self.state.inputs},
            },
            "vocabulary": vocabulary(),
        }

    def files(self, ask: _Values) -> dict[str, Any]:
        names, more = self.folder.names()
        return {"files": names, "more": more}

    def open(self, ask: _Values) -> dict[str, Any]:
        return _content(self.folder.read(ask.text("path")))

    def save(self, ask: _Values) -> dict[str, Any]:
        with self.lock:
            saved = self.folder.save(ask.text("path"), ask.text("text"), ask.text("version") or None)
        return {"version": saved.version}

    def watch(self, ask: _Values) -> dict[str, Any]:
        path, version = ask.text("path"), ask.text("version") or None
        state, now = self.folder.wait(path, version, WAIT, self.stop)
        return {"state": state, **(_content(now) if now else {})}

    def preset(self, ask: _Values) -> dict[str, Any]:
        name = ask.text("name")
        if name not in _presets():
            raise Missing("there is no such preset", at=name)
        return {"text": format_message(zoo.files()[name])}

    def analyse(self, ask: _Values) -> dict[str, Any] | bytes:
        """Problems and net; without the net where the page has it already."""
        found = self.analyst(ask.text("text"), ask.state(self.state))
        answer = {"kind": found.kind, "readable": found.readable, "problems": found.problems, "id": found.id}
        if found.id and found.id == ask.text("have"):
            return answer
        return f'{json.dumps(answer)[:-1]},"net":{found.net}}}'.encode()

    def share(self, ask: _Values) -> dict[str, Any]:
        """The net as a file: a page of its own, or a prototxt in today's form."""
        kind, text = ask.text("kind"), ask.text("text")
        with self.analyst.alone():
            found = analyse(text, ask.state(self.state), ask.text("title"))
        if kind == "prototxt" and found.msg is not None and found.whole:
            return {"text": format_message(found.msg)}
        if kind == "html" and found.graph is not None:
            if not found.graph.nodes:
                raise NetError("there is no layer yet")
            return {"text": page(found.graph, text=text)}
        if kind not in ("prototxt", "html"):
            raise Refused(400, "there is no such kind of file")
        raise NetError("the text cannot be made out as a whole", hint="see the problems below it")


class _Values:
    """The values of a request, each checked. Raises: Refused for one of another kind."""

    def __init__(self, given: Any) -> None:
        if not isinstance(given, dict):
            raise Refused(400, "the request is no object")
        self.given = given

    def text(self, name: str) -> str:
        value = self.given.get(name, "")
        if not isinstance(value, str):
            raise Refused(400, f"{name} is no text")
        return value

    def state(self, base: State) -> State:
        """The state that a net is to be looked at in."""
        phase, inputs = self.given.get("phase", base.phase), self.given.get("inputs", {})
        if phase not in ("TRAIN", "TEST") or not isinstance(inputs, dict):
            raise Refused(400, "phase or inputs cannot be used")
        shapes = tuple((name, _shape(dims)) for name, dims in inputs.items())
        return State(phase, base.level, base.stages, shapes, base.dialect)


def _shape(dims: Any) -> Shape:
    if not isinstance(dims, list) or not dims or len(dims) > 32:
        raise Refused(400, "a shape is a list of dims")
    if not all(isinstance(d, int) and not isinstance(d, bool) and 0 < d < 1 << 31 for d in dims):
        raise Refused(400, "a dim is a positive whole number")
    return tuple(dims)


@cache
def _presets() -> list[str]:
    """The nets of the zoo, by file name."""
    return [name for name in zoo.files() if not name.endswith("-solver.prototxt")]


def _content(content: Content) -> dict[str, Any]:
    return {"text": content.text, "version": content.version, "note": content.note}


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), secret.encode())


class _Handler(BaseHTTPRequestHandler):
    """One connection of a browser."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "netcompile", ""
    timeout = 60  # seconds without a word; longer than WAIT
    disable_nagle_algorithm = True  # else the body of an answer waits for the word that its head has come
    server: Editor

    def do_GET(self) -> None:
        self.answer("GET")

    def do_POST(self) -> None:
        self.answer("POST")

    def answer(self, method: str) -> None:
        """One request, whatever comes: a fault of the user's becomes JSON, one of ours a line on the terminal."""
        if self.server.stop.is_set():
            self.close_connection = True
            return
        try:
            body = self.body()
            self.check_host()
            url = _url(self.path)
            if url.path.startswith("/api/"):
                self.check_sender()
                self.api(method, url.path.removeprefix("/api/"), url.query, body)
            elif method == "GET" and url.path in PAGE:
                self.page(*PAGE[url.path])
            else:
                raise Refused(404, "there is nothing here")
        except Refused as e:
            self.give({"fault": {"what": str(e)}}, e.status)
        except NetError as e:
            told = {"at": e.at, "what": e.what, "expected": e.expected, "got": e.got, "hint": e.hint}
            answer: dict[str, Any] = {"fault": {k: str(v) for k, v in told.items() if v is not None}}
            if isinstance(e, Changed) and e.now:
                answer["now"] = _content(e.now)
            self.give(answer, STATUS.get(type(e), 400))
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:
            traceback.print_exc(file=sys.stderr)
            self.give({"fault": {"what": "a fault of the editor itself: see the terminal"}}, 500)

    def body(self) -> bytes:
        """The request's body, which must tell its length. Raises: Refused."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not re.fullmatch(r"[0-9]{1,12}", length):
            self.close_connection = True
            raise Refused(411, "the length of the request is not told")
        if int(length) > MAX_BODY:
            self.close_connection = True  # what follows is not read
            raise Refused(413, f"the request is larger than {MAX_BODY:,} bytes")
        return self.rfile.read(int(length))

    def check_host(self) -> None:
        """Raises: Refused unless the request is to this machine, by one of its own names."""
        host = re.sub(r":[0-9]*$", "", self.headers.get("Host", "")).lower()
        if len(self.headers.get_all("Host", [])) != 1 or host not in HOSTS:
            raise Refused(421, "this server answers to 127.0.0.1 and localhost only")

    def check_sender(self) -> None:
        """Raises: Refused unless the request is from our page, or from no page at all."""
        origin, own = self.headers.get("Origin"), f"http://{self.headers.get('Host', '')}"
        elsewhere = origin is not None and origin.lower() != own.lower()
        if elsewhere or self.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            raise Refused(403, "the request comes from another page")

    def api(self, method: str, name: str, query: str, body: bytes) -> None:
        """Answer the page. Raises: Refused, NetError."""
        if name == "enter" and method == "POST":
            token = self.server.enter(_Values(_json(body)).text("visit"))
            if token is None:
                raise Refused(401, "this address was for one visit: use the one on the terminal")
            self.give({"token": token})
            return
        bearer = self.headers.get("Authorization", "")
        if not _same(bearer, f"Bearer {self.server.token}"):
            raise Refused(401, "the token is missing or wrong")
        asked = {"GET": GET, "POST": POST}[method].get(name)
        if asked is None:
            raise Refused(404, "there is nothing here")
        values = _Values(dict(parse_qsl(query, keep_blank_values=True)) if method == "GET" else _json(body))
        self.give(asked(self.server, values))

    def page(self, name: str, kind: str) -> None:
        """One file of the page."""
        data = (ASSETS / name).read_bytes()
        nonce = secrets.token_urlsafe(16)
        self.send(200, data.replace(b"{{nonce}}", nonce.encode()) if kind == "text/html" else data, kind, nonce)

    def give(self, answer: dict[str, Any] | bytes, status: int = 200) -> None:
        data = answer if isinstance(answer, bytes) else json.dumps(answer, separators=(",", ":")).encode()
        self.send(status, data, "application/json")

    def send(self, status: int, data: bytes, kind: str, nonce: str = "") -> None:
        """One answer, whole."""
        style = f"'self' 'nonce-{nonce}'" if nonce else "'none'"
        policy = (
            f"default-src 'none'; script-src 'self'; style-src {style}; style-src-attr 'unsafe-inline'; connect-src 'self';"
            " img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(data)),
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *values: Any) -> None:
        """Nothing: the terminal is for what the user should read."""


def _url(path: str) -> SplitResult:
    try:
        return urlsplit(path)
    except ValueError:
        raise Refused(400, "the address cannot be read") from None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "the request is no JSON") from None


Answer = Callable[[Editor, _Values], dict[str, Any] | bytes]
GET: dict[str, Answer] = {
    "start": Editor.start,
    "files": Editor.files,
    "file": Editor.open,
    "watch": Editor.watch,
    "preset": Editor.preset,
}
POST: dict[str, Answer] = {"save": Editor.save, "analyse": Editor.analyse, "share": Editor.share}
