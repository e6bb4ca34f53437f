"""What makes two records the same citation, as 64-bit numbers, so that all of PubMed fits in memory."""

import hashlib

_PMIDS = 1 << 62


def pmid_key(pmid: str) -> int:
    """A number below 2**63 for a PMID: itself where it is a number, else a hash that no number meets."""
    # Other digits than ASCII's are no number of PubMed's, and Python converts no more than some thousands.
    if pmid.isascii() and pmid.isdigit() and len(pmid) < 20 and int(pmid) < _PMIDS:
        return int(pmid)
    return _PMIDS + _hash64(b"pmid", pmid) % _PMIDS


def text_key(text: str) -> int:
    """A hash below 2**64 of a citation's text."""
    return _hash64(b"text", text)


def draw(pmid: str, text: str) -> int:
    """A number below 2**64 that orders citations at random, by PMID or by text where there is none.

    It depends on nothing else, so a citation keeps its place among others whatever corpus it stands in.
    """
    return _hash64(b"draw-pmid", pmid) if pmid else _hash64(b"draw-text", text)


def _hash64(purpose: bytes, text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, person=purpose).digest(), "little")
