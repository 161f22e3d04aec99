"""Files of word processors, books and pages, as tests make them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
ODF = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0" '
    'xmlns:svg="urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0"'
)
RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/{}"/>'
    "</Relationships>"
)


def zipped(path: Path, members: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def docx(path: Path, body: str, part: str = "document.xml") -> Path:
    """A .docx file with what is in its `w:body`."""
    document = f"<?xml version='1.0' encoding='UTF-8'?><w:document {W}><w:body>{body}</w:body></w:document>"
    return zipped(path, {"_rels/.rels": RELATIONS.format(part), f"word/{part}": document})


def paragraphs(*texts: str) -> str:
    return "".join(f'<w:p><w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>' for text in texts)


def odt(path: Path, body: str) -> Path:
    return zipped(
        path,
        {"content.xml": f"<office:document-content {ODF}><office:body>{body}</office:body></office:document-content>"},
    )


def epub(
    path: Path,
    chapters: Mapping[str, str | bytes],
    order: Sequence[str] = (),
    extra: str = "",
    guide: str = "",
    others: Mapping[str, str] | None = None,
    entries: str = "",
) -> Path:
    """An .epub file with the pages of its chapters.

    Args:
        path: Path of the file.
        chapters: The pages by name.
        order: The names in the reading order, unless it is that of `chapters`.
        extra: What else the manifest has. A table of contents with the id "nav" is in the reading order, too.
        guide: What the guide has.
        others: Other parts.
        entries: What else the reading order has.
    """
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    items = "".join(
        f'<item id="{name}" href="text/{name}.xhtml" media-type="application/xhtml+xml"/>' for name in chapters
    )
    nav = ["nav"] if 'id="nav"' in extra else []
    spine = "".join(f'<itemref idref="{name}"/>' for name in [*(order or chapters), *nav])
    package = (
        f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{items}{extra}</manifest>'
        f"<spine>{spine}{entries}</spine><guide>{guide}</guide></package>"
    )
    pages = {f"OEBPS/text/{name}.xhtml": page for name, page in chapters.items()}
    return zipped(path, {"META-INF/container.xml": container, "OEBPS/content.opf": package, **pages, **(others or {})})


def pdf(
    path: Path, pages: Sequence[Sequence[str] | None], trailer: str = "", stamp: str = "", has_pictures: bool = False
) -> Path:
    """A .pdf file with the lines of each page; None is a page with nothing but a picture, and a stamp on it.

    Args:
        path: Path of the file.
        pages: The lines.
        trailer: What else the trailer has.
        stamp: A line on pages that are None. # stands for the number of the page.
        has_pictures: Whether all pages have pictures.
    """
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    kids = list[str]()
    for index, lines in enumerate(pages, 1):
        number = len(objects) + 1
        kids.append(f"{number} 0 R")
        shown = [stamp.replace("#", str(index))] if lines is None and stamp else lines or []
        content, resources = "", ""
        if lines is None or has_pictures:
            content, resources = "q 100 0 0 100 0 0 cm /Im Do Q\n", f"/XObject << /Im {number + 2} 0 R >>"
        if shown or lines is not None:
            content += f"BT /F 12 Tf 72 700 Td\n{''.join(f'({line}) Tj 0 -20 Td' + chr(10) for line in shown)}ET"
            resources += f"/Font << /F {number + 3} 0 R >>"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {number + 1} 0 R /Resources "
            f"<< {resources} >> >>",
            f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
            "<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8 "
            "/Length 1 >>\nstream\n0\nendstream",
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        ]
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    path.write_bytes(pdf_file(objects, trailer))
    return path


def pdf_file(objects: Sequence[str], trailer: str = "") -> bytes:
    """The bytes of a .pdf file of these objects, the first of which is its catalog."""
    data = io.BytesIO()
    data.write(b"%PDF-1.4\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(data.tell())
        data.write(f"{number} 0 obj\n{content}\nendobj\n".encode("latin-1"))
    start = data.tell()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    data.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}".encode())
    data.write(f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {trailer}>>\nstartxref\n{start}\n%%EOF\n".encode())
    return data.getvalue()
