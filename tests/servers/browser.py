"""Debian's Chromium, driven by Playwright."""

from pathlib import Path
from types import TracebackType
from typing import Self

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from .cache import debian_package, tool

# Nothing of the browser's own may go out: it would be refused, or answered and spoil the test's numbers.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


class Chromium:
    """A headless browser. It belongs to the thread that starts it, which must not run an asyncio loop.

    Attributes:
        errors: What the pages complained about: uncaught exceptions and errors on their consoles.

    Args:
        flags: Further command line flags.
    """

    def __init__(self, *, flags: tuple[str, ...] = ()) -> None:
        self.errors: list[str] = []
        self._flags = (*_FLAGS, *flags)
        self._browser: Browser | None = None

    @property
    def browser(self) -> Browser:
        """Playwright's browser."""
        if self._browser is None:
            raise RuntimeError("the browser runs only inside its with block")
        return self._browser

    def page(self, *, width: int = 1280, height: int = 800, scale: float = 1.0, dark: bool = False) -> Page:
        """A new page with storage and cookies of its own.

        Args:
            width: Width of the window, CSS pixels.
            height: Height of the window, CSS pixels.
            scale: Device pixels per CSS pixel.
            dark: Whether the page is told that its user prefers dark colours.
        """
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            color_scheme="dark" if dark else "light",
        )
        page = context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._listen)
        return page

    def screenshot(self, url: str, path: Path, *, width: int = 1280, height: int = 800) -> Path:
        """Write the whole page at an address as a PNG file, once it is loaded.

        Args:
            url: The page.
            path: The file.
            width: Width of the window, CSS pixels.
            height: Its least height, CSS pixels.

        Returns:
            The file.
        """
        page = self.page(width=width, height=height)
        page.goto(url)
        page.screenshot(path=path, full_page=True)
        page.context.close()
        return path

    def __enter__(self) -> Self:
        executable = tool("chromium", debian_package("chromium"))
        self._playwright = sync_playwright().start()
        try:
            self._browser = self._playwright.chromium.launch(executable_path=executable, args=list(self._flags))
        except BaseException:
            self._playwright.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.browser.close()
        self._browser = None
        self._playwright.stop()

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)
