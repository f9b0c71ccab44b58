"""Colours and type: dark, calm, and told apart by every kind of colour vision (Okabe and Ito's set)."""

from gui.run_status import Severity

BACKGROUND = "#14171a"
PANEL = "#1c2024"
LINE = "#343a40"
TEXT = "#dfe3e6"
MUTED = "#98a1a9"

SKY_BLUE = "#56b4e9"
ORANGE = "#e69f00"
GREEN = "#009e73"
YELLOW = "#f0e442"
VERMILION = "#f06a1f"  # Okabe and Ito's #d55e00, lightened to be read as text on a dark ground
PURPLE = "#cc79a7"

SEVERITY = {
    Severity.GOOD: "#35c79c",  # bluish green, lightened likewise
    Severity.NOTICE: SKY_BLUE,
    Severity.WARNING: ORANGE,
    Severity.ERROR: VERMILION,
}

STYLE = f"""
* {{ color: {TEXT}; font-family: "DejaVu Sans", "Segoe UI", "Helvetica Neue", sans-serif; font-size: 9pt; }}
QMainWindow, QWidget#central {{ background: {BACKGROUND}; }}
QFrame#panel {{ background: {PANEL}; border: 1px solid {LINE}; border-radius: 4px; }}
QLabel#title {{ font-weight: bold; }}
QLabel#muted {{ color: {MUTED}; }}
QLabel#state {{ font-size: 13pt; font-weight: bold; }}
QLabel#elapsed {{ font-size: 13pt; }}
QPushButton {{ background: {LINE}; border: 1px solid #4a525a; border-radius: 4px; padding: 6px 14px; }}
QPushButton {{ font-weight: bold; }}
QPushButton:hover {{ border-color: {MUTED}; }}
QPushButton:disabled {{ color: #6b737a; background: {PANEL}; border-color: {LINE}; }}
QPushButton#start:enabled {{ background: {GREEN}; color: white; }}
QLineEdit {{ background: {BACKGROUND}; border: 1px solid {LINE}; border-radius: 3px; padding: 3px; }}
QLineEdit:focus {{ border-color: {SKY_BLUE}; }}
QLineEdit:disabled {{ color: {MUTED}; }}
QTabWidget::pane {{ border: 0; }}
QTabBar::tab {{ background: {PANEL}; border: 1px solid {LINE}; padding: 4px 12px; }}
QTabBar::tab:selected {{ background: {LINE}; }}
QScrollArea, QScrollArea > QWidget > QWidget {{ background: transparent; border: 0; }}
QScrollBar {{ background: {PANEL}; border: 0; }}
QScrollBar:horizontal {{ height: 8px; }}
QScrollBar:vertical {{ width: 8px; }}
QScrollBar::handle {{ background: #4a525a; border-radius: 4px; }}
QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
QWidget#table QLabel {{ font-size: 8pt; }}
QSplitter::handle {{ background: {BACKGROUND}; }}
QToolTip {{ background: {PANEL}; color: {TEXT}; border: 1px solid {LINE}; }}
"""


def coloured(text: str, colour: str) -> str:
    """Rich text in a colour; special characters are escaped."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f'<span style="color: {colour}">{safe}</span>'
