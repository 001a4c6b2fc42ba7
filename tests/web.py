"""A web server on loopback that misbehaves on request: `web.answer("/a.jpg", status(500), image())` fails once, then gives the image."""

import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

from PIL import Image

Answer = Callable[[BaseHTTPRequestHandler], None]


class Web:
    """`answers` of a path are given in turn, the last one for ever; `calls` counts."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, tuple[Answer, ...]] = {}
        self.calls: Counter[str] = Counter()
        self.hosts: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.hosts.append(self.headers["Host"])
                answers = web.answers.get(self.path, (status(404),))
                answer = answers[min(web.calls[self.path], len(answers) - 1)]
                web.calls[self.path] += 1
                try:
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client has seen enough

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def answer(self, path: str, *answers: Answer) -> str:
        """Program a path; its address."""
        self.answers[path] = answers
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def status(code: int, **headers: str) -> Answer:
    """An empty answer; header names are written with underscores."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def body(content: bytes, kind: str = "image/jpeg", *, length: int | None = -1, **headers: str) -> Answer:
    """`content`; `length` is what the header claims (None: no header, -1: the truth)."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        if length is not None:
            handler.send_header("Content-Length", str(len(content) if length < 0 else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)
        handler.close_connection = True

    return answer


def image(width: int = 120, height: int = 80, kind: str = "JPEG") -> Answer:
    """A picture."""
    return body(picture(width, height, kind), f"image/{kind.lower()}")


def picture(width: int = 120, height: int = 80, kind: str = "JPEG", **options: object) -> bytes:
    target = BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((width, height)).save(target, kind, **options)
    return target.getvalue()


def silence(seconds: float) -> Answer:
    """Nothing at all for so long."""
    return lambda _: time.sleep(seconds)


def drip(seconds: float) -> Answer:
    """An image that comes a byte at a time, never silent for long and never done."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "image/jpeg")
        handler.end_headers()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            handler.wfile.write(b"\xff")
            time.sleep(0.02)
        handler.close_connection = True

    return answer
