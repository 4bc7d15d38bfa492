"""The editor's server: who gets an answer, which files it touches and when it saves them, and what it says of a text."""

import gc
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from netcompiler import NetError
from netcompiler.cli import main
from netcompiler.serve import folder as folder_module
from netcompiler.serve.analysis import Analyst, State, analyse, problems
from netcompiler.serve.folder import MAX_BYTES, Folder
from netcompiler.serve.server import MAX_BODY, Editor
from netcompiler.serve.vocabulary import vocabulary
from netcompiler.text import parse_message

NET = """\
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 11 dim: 13 } } }
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 5 kernel_size: 3 }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
"""
STATE = State()


class Client:
    """A browser page, as far as the server can tell."""

    def __init__(self, editor):
        self.port, self.token = editor.server_address[1], editor.token

    def ask(self, method, path, body=None, **headers):
        given = {"Host": f"127.0.0.1:{self.port}", "Authorization": f"Bearer {self.token}"}
        given.update({name.replace("_", "-"): value for name, value in headers.items()})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.putrequest(method, path, skip_host=True)
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        for name, value in {"Content-Length": str(len(data)), **given}.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(data)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        is_json = (answer.getheader("Content-Type") or "").startswith("application/json")
        return answer.status, json.loads(content) if is_json else content, answer.headers

    def get(self, path, **headers):
        return self.ask("GET", f"/api/{path}", **headers)[:2]

    def post(self, path, body, **headers):
        return self.ask("POST", f"/api/{path}", body, **headers)[:2]


@pytest.fixture
def tree(tmp_path):
    """A folder to serve, with something beside it that must stay out of reach."""
    root = tmp_path / "nets"
    (root / "deep" / "er").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / "small.prototxt").write_text(NET)
    (root / "deep" / "er" / "b.pbtxt").write_text(NET)
    (root / ".hidden" / "c.prototxt").write_text(NET)
    (root / "notes.txt").write_text("mine")
    (tmp_path / "secret.prototxt").write_text("secret")
    return root


@pytest.fixture
def serve():
    """Starts editors, and stops them in the end."""
    running = []

    def start(path, state=STATE):
        editor = Editor(Folder(path), state)
        thread = threading.Thread(target=editor.serve_forever, args=(0.05,))
        thread.start()
        running.append((editor, thread))
        return Client(editor)

    yield start
    for editor, thread in running:
        editor.shutdown()
        editor.close()
        thread.join()


@pytest.fixture
def page(serve, tree):
    return serve(tree)


# --- who gets an answer ---


def test_the_token_is_asked_for(page):
    assert page.get("start")[0] == 200
    for wrong in (
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {page.token}x",
        f"bearer {page.token}",
        page.token,
        "Bearer ü",
    ):
        for method, path in (("GET", "start"), ("GET", "file?path=small.prototxt"), ("POST", "save"), ("GET", "none")):
            status, answer, _ = page.ask(method, f"/api/{path}", {}, Authorization=wrong)
            assert status == 401 and answer == {"fault": {"what": "the token is missing or wrong"}}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "LOCALHOST", "[::1]"])
def test_this_machine_may_be_called(page, host):
    assert page.get("start", Host=f"{host}:{page.port}")[0] == 200
    assert page.get("start", Host=f"{host}:9999")[0] == 200  # the other end of an ssh tunnel


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "localhost.", "127.0.0.1@evil", "", None, "[::2]"],
)
def test_other_names_for_this_machine_get_nothing(page, host):
    for path in ("/api/start", "/"):
        assert page.ask("GET", path, Host=host)[0] == 421


def test_other_pages_get_nothing(page):
    body = {"text": NET}
    for origin in (
        "null",
        "http://evil.example",
        f"https://127.0.0.1:{page.port}",
        f"http://127.0.0.1:{page.port + 1}",
        "",
    ):
        assert page.post("analyse", body, Origin=origin)[0] == 403
        assert page.get("start", Origin=origin)[0] == 403
    for site in ("cross-site", "same-site"):
        assert page.post("analyse", body, Sec_Fetch_Site=site)[0] == 403
    assert page.post("analyse", body, Origin=f"http://127.0.0.1:{page.port}", Sec_Fetch_Site="same-origin")[0] == 200


def test_the_address_of_a_browser_is_good_for_one_visit(serve, tree):
    client = serve(tree)
    assert client.post("enter", {"visit": "guess"}, Authorization=None)[0] == 401
    assert client.post("enter", {"visit": ""}, Authorization=None)[0] == 401


def test_visits(tree):
    with Editor(Folder(tree), State()) as editor:
        assert editor.url.endswith(f"/#token={editor.token}") and editor.token not in editor.visit_url
        word = editor.visit
        assert editor.enter("x") is None and editor.enter(word) == editor.token
        assert editor.enter(word) is None and editor.enter("") is None


def test_only_the_loopback_interface_is_listened_on(tree):
    with Editor(Folder(tree), State()) as editor:
        assert editor.server_address[0] == "127.0.0.1"
        with pytest.raises(NetError, match=f"port {editor.server_address[1]} cannot be used"):
            Editor(Folder(tree), State(), editor.server_address[1])
    with pytest.raises(NetError, match="port 70000 cannot be used"):
        Editor(Folder(tree), State(), 70000)


def test_every_answer_is_fenced_in(page):
    for path in ("/", "/editor.js", "/editor.css", "/api/start", "/none"):
        _, _, headers = page.ask("GET", path)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe-eval" not in policy and "http" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert not [name for name in headers if name.lower().startswith("access-control")]


def test_the_page(page):
    status, content, headers = page.ask("GET", "/", Authorization=None)
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    nonce = headers["Content-Security-Policy"].split("'nonce-")[1].split("'")[0]
    assert nonce.encode() in content and b"{{" not in content and page.token.encode() not in content
    assert nonce not in page.ask("GET", "/")[2]["Content-Security-Policy"]
    assert page.ask("GET", "/editor.js")[2]["Content-Type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize(
    "path",
    ["/../pyproject.toml", "/editor.py", "/api", "/api/", "/assets/editor.js", "//etc/passwd", "/%2e%2e/x", "/page.js"],
)
def test_there_is_nothing_else(page, path):
    assert page.ask("GET", path)[0] == 404


def test_requests_that_are_none(page):
    for body, status in [(b"{", 400), (b"[]", 400), (b"\xff", 400), (b"[" * 10_000, 400), (b"{}", 200)]:
        assert page.post("analyse", body)[0] == status
    for values in (
        {"text": 1},
        {"text": NET, "phase": "test"},
        {"text": NET, "inputs": []},
        *({"text": NET, "inputs": {"data": shape}} for shape in ([], "1", [0], [1.5], [True], [1 << 31], [1] * 33)),
    ):
        assert page.post("analyse", values)[0] == 400
    assert page.get("save")[0] == 404 and page.post("start", {})[0] == 404
    assert page.ask("PUT", "/api/save")[0] == 501
    assert page.ask("GET", "http://[x")[0] == 400


def test_too_much_is_refused_unread(page):
    for length, status in ((str(MAX_BODY + 1), 413), ("9" * 13, 411), ("-1", 411), ("ten", 411)):
        with socket.create_connection(("127.0.0.1", page.port), timeout=10) as s:
            head = f"POST /api/analyse HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
            s.sendall(head.encode())
            answer = b"".join(iter(lambda: s.recv(4096), b""))  # the connection is closed: nothing more is read
            assert answer.startswith(f"HTTP/1.1 {status} ".encode())


def test_a_fault_of_ours_is_told_on_the_terminal(page, capfd, monkeypatch):
    monkeypatch.setattr("netcompiler.serve.analysis.problems", lambda found: 1 / 0)
    status, answer = page.post("analyse", {"text": ""})
    assert status == 500 and "terminal" in answer["fault"]["what"]
    assert "ZeroDivisionError" in capfd.readouterr().err


# --- files ---


def test_the_list_of_files(page, tree):
    assert page.get("files")[1] == {"files": ["deep/er/b.pbtxt", "small.prototxt"], "more": False}
    start = page.get("start")[1]
    assert start["files"] == ["deep/er/b.pbtxt", "small.prototxt"] and start["only"] is None


def test_long_lists_are_cut(tree, monkeypatch):
    monkeypatch.setattr(folder_module, "MAX_LISTED", 1)
    assert Folder(tree).names() == (["deep/er/b.pbtxt"], True)


OUTSIDE = [
    "../secret.prototxt",
    "deep/../../secret.prototxt",
    "deep/../small.prototxt",
    "/etc/passwd",
    "/etc/x.prototxt",
    "",
    ".",
    "..",
    "small.prototxt\0",
    "\0",
    ".hidden/c.prototxt",
    "deep/.x.prototxt",
    "notes.txt",
    "new.py",
    "deep",
    "link.prototxt",
    "out/secret.prototxt",
    "name.prototxt",
]


@pytest.mark.parametrize("path", OUTSIDE, ids=ascii)
def test_nothing_else_is_opened_or_written(page, tree, path):
    (tree / "link.prototxt").symlink_to("../secret.prototxt")
    (tree / "out").symlink_to("..")
    (tree / "name.prototxt").symlink_to("notes.txt")
    before = {p: p.read_bytes() for p in tree.parent.rglob("*") if p.is_file()}
    query = f"path={quote(path)}"
    for name in ("file", "watch"):
        status, answer = page.get(f"{name}?{query}")
        assert status in (403, 404) and "text" not in answer
    status, answer = page.post("save", {"path": path, "text": "mine now"})
    assert status == 403, answer
    assert before == {p: p.read_bytes() for p in tree.parent.rglob("*") if p.is_file()}


def test_half_a_character_is_no_name(page):
    assert page.post("save", {"path": "half\ud800.prototxt", "text": "mine now"})[0] == 403


def test_what_is_no_plain_text(page, tree):
    os.mkfifo(tree / "pipe.prototxt")
    (tree / "dir.prototxt").mkdir()
    (tree / "binary.prototxt").write_bytes(b"\x0a\x00\x01")
    (tree / "large.prototxt").write_bytes(b" " * (MAX_BYTES + 1))
    wrong = [("pipe", 403), ("dir", 403), ("binary", 400), ("large", 400), ("none", 404)]
    for name, status in wrong:
        assert page.get(f"file?path={name}.prototxt")[0] == status, name
    assert page.post("save", {"path": "dir.prototxt", "text": ""})[0] == 403
    assert page.post("save", {"path": "new.prototxt", "text": "#" * (MAX_BYTES + 1)})[0] == 400
    assert not (tree / "new.prototxt").exists()
    assert page.post("save", {"path": "none/new.prototxt", "text": ""})[0] == 404


def test_one_file_alone(serve, tree):
    page = serve(tree / "small.prototxt")
    assert page.get("start")[1]["files"] == ["small.prototxt"] and page.get("start")[1]["only"] == "small.prototxt"
    assert page.get("file?path=small.prototxt")[1]["text"] == NET
    for path in ("deep/er/b.pbtxt", "./small.prototxt/../new.prototxt", "new.prototxt"):
        assert page.post("save", {"path": path, "text": "x"})[0] == 403
    assert not (tree / "new.prototxt").exists()
    odd = serve(tree / "notes.txt")  # named by the user himself
    assert odd.get("file?path=notes.txt")[1]["text"] == "mine"


def test_nothing_to_serve(tmp_path):
    for path in (tmp_path / "none", "\0", os.devnull):
        with pytest.raises(NetError, match="cannot be read|neither"):
            Folder(path)


def opened(page, path="small.prototxt"):
    status, answer = page.get(f"file?path={path}")
    assert status == 200, answer
    return answer


def test_saved_over_what_was_read(page, tree):
    version = opened(page)["version"]
    status, answer = page.post("save", {"path": "small.prototxt", "text": "# mine\n", "version": version})
    assert status == 200 and (tree / "small.prototxt").read_bytes() == b"# mine\n"
    assert answer == {"version": opened(page)["version"]} and answer["version"] != version
    assert [p.name for p in tree.iterdir() if p.name.startswith(".")] == [".hidden"]  # no half-written file is left


def test_not_saved_over_what_another_wrote(page, tree):
    version = opened(page)["version"]
    (tree / "small.prototxt").write_text("# theirs\n")
    before = (tree / "small.prototxt").stat().st_mtime_ns
    mine = {"path": "small.prototxt", "text": "# mine\n", "version": version}
    status, answer = page.post("save", mine)
    assert status == 409 and answer["fault"]["what"] == "has been changed by another program"
    assert answer["now"]["text"] == "# theirs\n"
    assert (tree / "small.prototxt").read_text() == "# theirs\n"
    assert (tree / "small.prototxt").stat().st_mtime_ns == before
    # Whoever has seen what stands there may write over it.
    assert page.post("save", mine | {"version": answer["now"]["version"]})[0] == 200
    assert (tree / "small.prototxt").read_text() == "# mine\n"


def test_a_change_that_keeps_size_and_time_is_seen(page, tree):
    path, version = tree / "small.prototxt", opened(page)["version"]
    looks = path.stat()
    path.write_text(NET.replace("small", "SMALL"))
    os.utime(path, ns=(looks.st_atime_ns, looks.st_mtime_ns))
    assert page.post("save", {"path": "small.prototxt", "text": "", "version": version})[0] == 409


def test_the_same_text_written_again_is_no_conflict(page, tree):
    version = opened(page)["version"]
    (tree / "small.prototxt").write_text(NET)
    assert page.post("save", {"path": "small.prototxt", "text": "x", "version": version})[0] == 200


def test_not_saved_over_a_change_at_the_last_moment(tree, monkeypatch):
    """Another program writes while our own .part file is being written."""
    folder = Folder(tree)
    version = folder.read("small.prototxt").version
    monkeypatch.setattr(os, "fsync", lambda _: (tree / "small.prototxt").write_text("# theirs\n"))
    with pytest.raises(folder_module.Changed):
        folder.save("small.prototxt", "# mine\n", version)
    assert (tree / "small.prototxt").read_text() == "# theirs\n"
    assert sorted(p.name for p in tree.iterdir()) == [".hidden", "deep", "notes.txt", "small.prototxt"]


def test_a_new_file_is_made_but_not_over_an_old_one(page, tree):
    status, answer = page.post("save", {"path": "small.prototxt", "text": "x"})
    assert status == 409 and answer["fault"]["what"] == "exists already" and answer["now"]["text"] == NET
    assert page.post("save", {"path": "deep/new.prototxt", "text": "x", "version": ""})[0] == 200
    assert (tree / "deep" / "new.prototxt").read_text() == "x"
    version = opened(page)["version"]
    (tree / "small.prototxt").unlink()
    status, answer = page.post("save", {"path": "small.prototxt", "text": "x", "version": version})
    assert status == 409 and answer["fault"]["what"] == "has been deleted meanwhile" and "now" not in answer


def test_line_ends_and_marks_are_kept(page, tree):
    path = tree / "small.prototxt"
    path.write_bytes(b"\xef\xbb\xbf# a\r\nname: 'x'\r\n")
    was = opened(page)
    assert was["text"] == "# a\nname: 'x'\n" and was["note"] == ""
    page.post("save", {"path": "small.prototxt", "text": was["text"] + "# é\n", "version": was["version"]})
    assert path.read_bytes() == b"\xef\xbb\xbf# a\r\nname: 'x'\r\n# \xc3\xa9\r\n"
    path.write_bytes(b"# caf\xe9\n")
    was = opened(page)
    assert was["text"] == "# café\n" and "not in UTF-8" in was["note"]
    for ends, note, saved in (
        (b"a\r\nb\nc\n", "with CR LF.", b"a\r\nb\r\nc\r\n"),
        (b"a\rb\rc\r", "with LF.", b"a\nb\nc\n"),
        (b"a\nb\nc\n", "", b"a\nb\nc\n"),
    ):
        path.write_bytes(ends)
        was = opened(page)
        assert was["text"] == "a\nb\nc\n" and was["note"].endswith(note) and bool(was["note"]) == bool(note)
        page.post("save", {"path": "small.prototxt", "text": was["text"], "version": was["version"]})
        assert path.read_bytes() == saved


def test_a_file_that_is_write_protected(page, tree, monkeypatch):
    version = opened(page)["version"]
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write to all
    status, answer = page.post("save", {"path": "small.prototxt", "text": "x", "version": version})
    assert status == 400 and "write-protected" in answer["fault"]["what"]
    assert page.post("save", {"path": "new.prototxt", "text": "x"})[0] == 200
    assert (tree / "small.prototxt").read_text() == NET and (tree / "new.prototxt").read_text() == "x"


def test_a_file_that_cannot_be_written(page, tree, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    version = opened(page)["version"]
    monkeypatch.setattr(os, "fsync", full)
    status, answer = page.post("save", {"path": "small.prototxt", "text": "x", "version": version})
    assert status == 400 and "No space left" in answer["fault"]["what"]
    assert (tree / "small.prototxt").read_text() == NET


def test_a_change_is_noticed(page, tree):
    path, version = tree / "small.prototxt", opened(page)["version"]
    answers = []
    for change in (lambda: path.write_text("# theirs\n"), path.unlink):
        query = f"watch?path=small.prototxt&version={version}"
        thread = threading.Thread(target=lambda query=query: answers.append(page.get(query)[1]))
        thread.start()
        time.sleep(0.5)
        assert thread.is_alive()
        change()
        thread.join(5)
        assert not thread.is_alive()
        version = answers[-1].get("version")
    assert answers[0]["state"] == "changed" and answers[0]["text"] == "# theirs\n" and answers[1] == {"state": "gone"}
    path.write_text("# back\n")
    assert page.get("watch?path=small.prototxt&version=")[1]["text"] == "# back\n"


def test_waiting_ends(tree, monkeypatch):
    monkeypatch.setattr("netcompiler.serve.server.WAIT", 0.3)
    with Editor(Folder(tree), State()) as editor:
        version = editor.folder.read("small.prototxt").version
        assert editor.folder.wait("small.prototxt", version, 0.1, editor.stop) == ("same", None)
        editor.close()
        start = time.monotonic()
        assert editor.folder.wait("small.prototxt", version, 60, editor.stop) == ("same", None)
        assert time.monotonic() - start < 5


# --- what it says of a text ---

# Each: a text, and for each problem its severity, its line, the piece of text that it is under, and what it says.
PROBLEMS = [
    ("fine", NET, []),
    ("empty", "", []),
    (
        "field",
        NET.replace("kernel_size", "kernel_sise"),
        [
            ("error", 4, 'type: "Convolution"', "kernel_size is missing"),
            ("error", 5, "kernel_sise: 3", 'ConvolutionParameter has no field "kernel_sise"'),
        ],
    ),
    ("value", NET.replace("num_output: 5", "num_output: five"), [("error", 5, "five", 'a bad value for "num_output"')]),
    ("type", NET.replace("ReLU", "RELU"), [("error", 7, 'type: "RELU"', 'unknown layer type "RELU"')]),
    ("blob", NET.replace('m: "conv"', 'm: "con"'), [("error", 7, 'bottom: "con"', 'unknown bottom "con"')]),
    (
        "shape",
        NET.replace("kernel_size: 3", "kernel_size: 33"),
        [("error", 5, "kernel_size: 33", "the kernel is larger")],
    ),
    (
        "no value",
        NET.replace("kernel_size: 3", "kernel_size:"),
        [("error", 5, "}", 'a value is missing for "kernel_size"')],
    ),
    ("open", NET[:-3], [("error", 7, "{", '"{" is never closed')]),
    ("shut", NET + "}", [("error", 8, "}", '"}" closes nothing')]),
    (
        "half",
        NET + "lay",
        [("error", 8, "lay", 'NetParameter has no field "lay"'), ("error", 8, "", "a value is missing")],
    ),
    ("unicode", '# é🙂\nname: "🙂" nam: "🙂"', [("error", 2, 'nam: "🙂"', 'NetParameter has no field "nam"')]),
    (
        "ask",
        'layer { name: "d" type: "Data" top: "x" top: "y" }',
        [("ask", 1, 'type: "Data"', "the net does not tell")],
    ),
    (
        "warning",
        'layers { name: "x" type: RELU }\nlayer { name: "y" type: "Silence" }',
        [
            ("error", 1, "layers", "the wrong number of bottoms"),
            ("warning", 2, "l", "the net has both layers (V1) and"),
        ],
    ),
    (
        "no effect",
        NET.replace('top: "conv" }', 'top: "conv" pooling_param { pool: AVE } }'),
        [("warning", 0, "", "pooling_param has no effect on ReLU layers: relu")],
    ),
    (
        "solver",
        'base_lr: 0.1\nlr_polici: "fixed"\nnet: "x"',
        [("error", 2, 'lr_polici: "fixed"', 'SolverParameter has no field "lr_polici"')],
    ),
    (
        "old solver",
        'net: "x"\ntype: "SGD" solver_type: SGD',
        [("error", 2, "solver_type: SGD", "type and solver_type")],
    ),
]


@pytest.mark.parametrize(("text", "wanted"), [p[1:] for p in PROBLEMS], ids=[p[0] for p in PROBLEMS])
def test_problems(page, text, wanted):
    status, answer = page.post("analyse", {"text": text})
    assert status == 200
    lines = ["", *text.split("\n")]
    found = []
    for p in answer["problems"]:
        line = p.get("line", 0)
        found.append((p["severity"], line, lines[line][p.get("column", 1) - 1 : p.get("end", 1) - 1], p["what"]))
    assert [p[:3] for p in found] == [p[:3] for p in wanted], found
    assert all(p[3].startswith(w[3]) for p, w in zip(found, wanted)), found


def test_a_problem_is_told_in_full(page):
    text = NET.replace("num_output: 5", "num_output: 5 group: 2")
    (problem,) = page.post("analyse", {"text": text})[1]["problems"]
    assert problem["layer"] == '"conv" (Convolution)' and {"what", "expected", "got"} <= problem.keys()
    assert text.splitlines()[problem["line"] - 1][problem["column"] - 1 : problem["end"] - 1] == "group: 2"


def test_a_text_that_breaks_off(page):
    """Nothing is said of the layer that is being typed but where the text breaks off, and of what stands below nothing."""
    above, below = NET.split("layer {\n")
    text = f'{above}layer {{ name: "new" type: "Conv\nlayer {{\n{below}'
    answer = page.post("analyse", {"text": text})[1]
    assert not answer["readable"] and [p["line"] for p in answer["problems"]] == [3]
    assert page.post("analyse", {"text": NET})[1]["readable"]


def test_a_shape_can_be_given(page):
    text = 'layer { name: "d" type: "Data" top: "x" top: "y" }\nlayer { name: "r" type: "ReLU" bottom: "x" top: "z" }'
    (problem,) = page.post("analyse", {"text": text})[1]["problems"]
    assert problem["asks"] == ["x", "y"]
    for inputs in ({"x": [2, 3, 5, 7], "y": [2]}, {"x": [2, 3, 5, 7], "z": [1], "gone": [1]}):
        assert page.post("analyse", {"text": text, "inputs": inputs})[1]["problems"] == []


def test_phases(serve, tree):
    text = NET + 'layer { name: "no" type: "None" bottom: "conv" top: "x" include { phase: TRAIN } }\n'
    assert serve(tree).post("analyse", {"text": text})[1]["problems"] == []
    assert serve(tree).post("analyse", {"text": text, "phase": "TRAIN"})[1]["problems"] != []
    page = serve(tree, State("TRAIN"))
    assert (
        page.get("start")[1]["state"]["phase"] == "TRAIN" and page.post("analyse", {"text": text})[1]["problems"] != []
    )


def test_stages_and_levels(serve, tree):
    text = NET + 'layer { name: "no" type: "None" bottom: "conv" top: "x" include { stage: "odd" min_level: 2 } }\n'
    assert not serve(tree, State(stages=("odd",), level=1)).post("analyse", {"text": text})[1]["problems"]
    assert serve(tree, State(stages=("odd",), level=2)).post("analyse", {"text": text})[1]["problems"]


def test_dialects(serve, tree, monkeypatch):
    text = """layer { name: "in" type: "Input" top: "x" top: "r"
      input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } shape { dim: 2 dim: 5 } } }
    layer { name: "p" type: "ROIPooling" bottom: "x" bottom: "r" top: "p" roi_pooling_param { pooled_h: 2 pooled_w: 2 } }"""
    for dialect, relative in ((None, False), ("jolibrain", True)):  # whose regions are parts of the image
        page = serve(tree, State(dialect=dialect))
        assert ("relative" in str(page.post("analyse", {"text": text})[1]["net"])) == relative
        assert (", relative" in page.post("share", {"kind": "html", "text": text})[1]["text"]) == relative
    states = []
    monkeypatch.setattr("netcompiler.cli.serve.Editor", lambda folder, state, port: sys.exit(states.append(state)))
    with pytest.raises(SystemExit):
        main(["serve", str(tree), "--dialect", "hszhao/PSPNet"])
    assert states == [State(dialect="pspnet")]


def test_the_code_of_python_layers_is_not_run(page, tree, monkeypatch):
    (tree / "evil.py").write_text(f"open({str(tree / 'ran')!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(str(tree))
    text = (
        NET + 'layer { name: "p" type: "Python" bottom: "conv" top: "p" python_param { module: "evil" layer: "Evil" } }'
    )
    (problem,) = page.post("analyse", {"text": text})[1]["problems"]
    assert problem["line"] == 8 and not (tree / "ran").exists()


def test_answers_are_kept_and_equal():
    analyst = Analyst()
    first = analyst(NET, State())
    assert analyst(NET, State()) is first and analyst(NET, State("TRAIN")) is not first
    for i in range(20):
        analyst(f"# {i}", State())
    assert analyst(NET, State()) is not first


def test_the_garbage_collector_goes_on_afterwards(monkeypatch):
    seen = []
    monkeypatch.setattr("netcompiler.serve.analysis.problems", lambda found: seen.append(gc.isenabled()) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Analyst()(NET, State())
    assert seen == [False] and gc.isenabled()


def test_many_at_once(page):
    """Warnings are caught for the whole process: what is said of one text must not be said of another."""
    texts = {
        "a": NET.replace('top: "conv" }', 'top: "conv" pooling_param { pool: AVE } }'),
        "b": NET,
        "c": "layer {",
    }
    wanted = {name: problems(analyse(text)) for name, text in texts.items()}
    wrong = []

    def ask(name):
        for i in range(10):
            answer = page.post("analyse", {"text": texts[name] + f"# {i}"})[1]["problems"]
            if [p["what"] for p in answer] != [p["what"] for p in wanted[name]]:
                wrong.append((name, answer))

    threads = [threading.Thread(target=ask, args=(name,)) for name in texts for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- what it offers ---


def test_presets(page):
    presets = page.get("start")[1]["presets"]
    assert "ResNet-152-deploy.prototxt" in presets and not [p for p in presets if "solver" in p]
    for name in presets:
        text = page.get(f"preset?name={name}")[1]["text"]
        stored = (Path(__file__).parents[1] / "model_zoo" / name).read_text()
        assert text == "".join(line for line in stored.splitlines(True) if not line.startswith("#"))
    assert page.get("preset?name=../README.md")[0] == 404


@pytest.mark.parametrize(
    ("kind", "text", "status", "told"),
    [
        ("html", NET, 200, "<!doctype html>"),
        ("html", NET + "layer { nmae: 1 }", 200, "<!doctype html>"),  # as far as it can be understood
        ("html", "", 400, "there is no layer yet"),
        ("prototxt", 'input: "x" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4', 200, 'type: "Input"'),
        ("prototxt", NET + "layer { nmae: 1 }", 400, "cannot be made out as a whole"),
        ("exe", NET, 400, "no such kind"),
    ],
)
def test_shared(page, kind, text, status, told):
    found, answer = page.post("share", {"kind": kind, "text": text, "title": "net.prototxt"})
    assert found == status and told in (answer["text"] if status == 200 else answer["fault"]["what"])


def test_vocabulary(page):
    found = page.get("start")[1]["vocabulary"]
    assert found == json.loads(json.dumps(vocabulary()))
    fields = found["messages"]["LayerParameter"]
    assert fields["convolution_param"] == {
        "repeated": False,
        "message": "ConvolutionParameter",
        "doc": fields["convolution_param"]["doc"],
    }
    assert fields["bottom"]["repeated"] and fields["bottom"]["type"] == "text"
    pooling = found["messages"]["PoolingParameter"]
    assert pooling["pool"]["values"][:2] == ["MAX", "AVE"] and pooling["pool"]["default"] == "MAX"
    assert pooling["global_pooling"]["type"] == "true or false" and pooling["global_pooling"]["default"] == "false"
    assert found["messages"]["BatchNormParameter"]["eps"]["default"] == "1e-05"
    assert "xavier" in found["messages"]["FillerParameter"]["type"]["values"]
    assert found["messages"]["NetStateRule"]["phase"]["values"][:2] == ["TRAIN", "TEST"]
    assert "CONVOLUTION" in found["messages"]["V1LayerParameter"]["type"]["values"]
    for message in found["messages"].values():
        for name, field in message.items():
            assert ("message" in field) != ("type" in field), name
            assert field.get("message", "NetParameter") in found["messages"]


def test_solver_fields_are_offered_with_values_that_read():
    for name in ("lr_policy", "type"):
        for value in vocabulary()["messages"]["SolverParameter"][name]["values"]:
            assert getattr(parse_message(f'{name}: "{value}"', kind="SolverParameter"), name) == value


def test_layers_in_the_vocabulary():
    """What a layer type reads its settings from is found in its code: compare with a few that everybody knows."""
    found = vocabulary()["layers"]
    assert {kind: found[kind]["settings"] for kind in ("Convolution", "Deconvolution", "Pooling", "TanH", "LSTM")} == {
        "Convolution": ["convolution_param"],
        "Deconvolution": ["convolution_param"],
        "Pooling": ["pooling_param"],
        "TanH": [],
        "LSTM": ["recurrent_param"],
    }
    assert sorted(found["SoftmaxWithLoss"]["settings"]) == ["loss_param", "softmax_param", "softmaxloss_param"]
    assert sorted(found["ImageData"]["settings"]) == ["image_data_param", "transform_param"]
    assert (
        found["ReLU"]["bottoms"] == [1, 1]
        and found["Concat"]["bottoms"] == [1, None]
        and found["Data"]["tops"] == [1, 2]
    )
    for kind, entry in found.items():
        assert entry["doc"] and "\n" not in entry["doc"], kind
        assert all(name in vocabulary()["messages"]["LayerParameter"] for name in entry["settings"])


def test_the_comments_are_those_of_the_schema():
    pytest.importorskip("grpc_tools", reason="grpcio-tools compiles the schema")
    import runpy

    proto = Path(__file__).parents[1] / "proto"
    printed = runpy.run_path(str(proto / "build.py"))["comments"]()
    stored = json.loads((Path(folder_module.__file__).parent / "comments.json").read_text())
    assert printed == stored, "run python proto/build.py"


# --- the command ---


def test_from_start_to_ctrl_c(tree):
    command = [sys.executable, "-m", "netcompiler", "serve", str(tree), "--no-browser"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        url = lines[2].strip()
        assert str(tree) in lines[0] and url.startswith("http://127.0.0.1:")
        port, token = int(url.split(":")[2].split("/")[0]), url.split("token=")[1]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/api/start", headers={"Authorization": f"Bearer {token}"})
        assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert process.returncode == 0 and out.endswith("stopped\n") and err == ""
    finally:
        process.kill()


def test_faults_of_the_command_line(tree, capsys):
    (tree / "binary.prototxt").write_bytes(b"\x0a\x00\x01")
    for arguments, what in [
        ([str(tree / "none.prototxt")], "for a new net, give the folder"),
        ([str(tree / "binary.prototxt")], "a binary file"),
        ([str(tree), "--input", "data"], "--input is not NAME=DIMS"),
        ([str(tree), "--port", "70000"], "port 70000 cannot be used"),
        ([str(tree), "--dialect", "psp"], 'did you mean "pspnet"?'),
    ]:
        assert main(["serve", "--no-browser", *arguments]) == 2
        assert what in capsys.readouterr().err


def test_help(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    out = capsys.readouterr().out
    assert "ssh -L" in out and "Ctrl-C" in out


def test_the_server_needs_no_torch():
    code = "import sys, netcompiler.cli.serve; from netcompiler.serve.analysis import analyse; analyse('')"
    code += "; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
