"""Small files of invented citations, in every format that is read."""

import gzip
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from compactbio import corpus

DOCTYPE = '<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle//EN" "http://127.0.0.1:9/pubmed.dtd">'


def record(
    pmid: int | str,
    title: str = "A study of the liver.",
    abstract: str | None = "The drug showed effects in the liver.",
    version: int = 1,
    revised: str | None = None,
    more: str = "",
) -> str:
    """A `MedlineCitation` in XML; `title` and `abstract` are markup, an abstract of several parts is given as such."""
    date = ""
    if revised is not None:
        year, month, day = revised.split("-")
        date = f"<DateRevised><Year>{year}</Year><Month>{month}</Month><Day>{day}</Day></DateRevised>"
    if abstract is not None and "<AbstractText" not in abstract:
        abstract = f"<AbstractText>{abstract}</AbstractText>"
    body = "" if abstract is None else f"<Abstract>{abstract}</Abstract>"
    return (
        f'<MedlineCitation Status="MEDLINE"><PMID Version="{version}">{pmid}</PMID>{date}'
        f"<Article><ArticleTitle>{title}</ArticleTitle>{body}</Article>{more}</MedlineCitation>"
    )


def deletion(*pmids: int) -> str:
    return "<DeleteCitation>" + "".join(f'<PMID Version="1">{pmid}</PMID>' for pmid in pmids) + "</DeleteCitation>"


def article_set(*records: str, prolog: str = DOCTYPE) -> str:
    """A whole `PubmedArticleSet` of records and deletions."""
    wrapped = (
        f"<PubmedArticle>\n{each}\n<PubmedData/></PubmedArticle>" if each.startswith("<MedlineCitation") else each
        for each in records
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n{prolog}\n<PubmedArticleSet>\n{"".join(wrapped)}</PubmedArticleSet>\n'
    )


def citation_set(*records: str) -> str:
    """A whole `MedlineCitationSet`, as it was until 2016."""
    return f'<?xml version="1.0"?>\n<MedlineCitationSet>{"".join(records)}</MedlineCitationSet>'


def write(path: Path, content: str | bytes) -> Path:
    """Write a file, packed where its name ends in .gz."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def json_lines(records: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(each) + "\n" for each in records)


def abstracts(count: int, start: int = 1) -> list[dict[str, Any]]:
    """Records with PMIDs from `start`, no two of them alike."""
    return [
        {
            "pmid": str(pmid),
            # Digits apart, as the tests' vocabulary has them.
            "title": f"Treatment {' '.join(str(pmid))} in rats.",
            "abstract": f"Patients were given dose {' '.join(str(pmid))} daily. "
            + f"The results of study {pmid % 7} showed risk. " * 3,
        }
        for pmid in range(start, start + count)
    ]


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a corpus, by its name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(folder: Path) -> list[tuple[str, list[int]]]:
    """All rows of a corpus as (pmid, ids), of `train` first."""
    return [(row["pmid"], row["input_ids"]) for split in corpus.open(folder).values() for row in split]
