import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn import memory
from fastrnn.checks import counted
from fastrnn.errors import FastrnnError
from fastrnn.text import streams as module
from fastrnn.text.streams import Chunks, EncodedText, Items, Lines, Streams, next_line


def streams_of(codes, batch, seq_length, characters):
    return Streams(EncodedText(codes, characters), batch, seq_length)


def test_chunks_by_hand():
    streams = streams_of(np.arange(17, dtype=np.uint8), batch=2, seq_length=3, characters=200)
    # Two streams of 8, of which 7 make two chunks; 7, 15 and 16 are dropped.
    assert streams.chunks == 2
    whole = streams.read(0, 2)
    assert whole.tolist() == [[0, 8], [1, 9], [2, 10], [3, 11], [4, 12], [5, 13], [6, 14]]
    assert streams.read(1, 1).tolist() == [[3, 11], [4, 12], [5, 13], [6, 14]]
    assert whole.dtype == np.int32
    assert whole.flags.c_contiguous


@st.composite
def sizes(draw):
    """Length, batch and sequence length of which at least one chunk can be made."""
    batch, seq_length = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    shortest = batch * (seq_length + 1)
    return draw(st.integers(shortest, shortest + 200)), batch, seq_length


@given(sizes(), st.data())
def test_pieces_put_together_are_the_whole(size, data):
    length, batch, T = size
    streams = streams_of(np.arange(length, dtype=np.uint16), batch, T, length)
    whole = streams.read(0, streams.chunks)
    assert whole.shape == (streams.chunks * T + 1, batch)
    pieces, first = [], 0
    while first < streams.chunks:
        count = data.draw(st.integers(1, streams.chunks - first))
        piece = streams.read(first, count)
        assert np.array_equal(piece[-1], whole[(first + count) * T])
        pieces.append(piece[:-1])
        first += count
    assert np.array_equal(np.concatenate(pieces), whole[:-1])


@given(sizes())
def test_every_chunk_predicts_the_next_character_of_its_stream(size):
    length, batch, T = size
    codes = np.arange(length, dtype=np.uint16)
    streams = streams_of(codes, batch, T, length)
    stream = length // batch
    assert streams.chunks * T < stream <= (streams.chunks + 1) * T
    for i in range(streams.chunks):
        chunk = streams.read(i, 1)
        for s in range(batch):
            start = s * stream + i * T
            assert np.array_equal(chunk[:-1, s], codes[start : start + T])
            assert np.array_equal(chunk[1:, s], codes[start + 1 : start + T + 1])


def test_one_stream_is_the_text_in_order():
    codes = np.random.default_rng(0).integers(0, 200, 101).astype(np.uint8)
    streams = streams_of(codes, batch=1, seq_length=25, characters=200)
    assert streams.chunks == 4
    assert np.array_equal(streams.read(0, 4)[:, 0], codes)


@pytest.mark.parametrize(("length", "chunks"), [(26, 1), (50, 1), (51, 2)])
def test_a_chunk_needs_one_character_more_than_its_length(length, chunks):
    assert (
        streams_of(np.zeros(length, np.uint8), batch=1, seq_length=25, characters=200).chunks
        == chunks
    )


@pytest.mark.parametrize("length", [0, 1, 2, 103])
def test_too_short_a_text(length):
    with pytest.raises(FastrnnError) as caught:
        streams_of(np.zeros(length, np.uint8), batch=4, seq_length=25, characters=200)
    assert str(caught.value) == (
        f"the text has {counted(length, 'character')}, but batch 4 and sequence length 25 need at "
        "least 104; give a longer text, or a smaller batch or sequence length"
    )


def test_just_long_enough_a_text():
    assert streams_of(np.zeros(104, np.uint8), batch=4, seq_length=25, characters=200).chunks == 1


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, 5), (4, 1), (2, -1)])
def test_no_chunks_outside_the_text(first, count):
    with pytest.raises(AssertionError):
        streams_of(np.zeros(101, np.uint8), batch=1, seq_length=25, characters=200).read(
            first, count
        )


def test_memory_mapped_codes(tmp_path):
    codes = np.arange(1000, dtype=np.uint16)
    np.save(tmp_path / "codes.npy", codes)
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    streams = streams_of(mapped, batch=3, seq_length=7, characters=1000)
    assert np.shares_memory(streams._text._codes, mapped)  # a view, nothing was copied
    piece = streams.read(5, 2)
    assert type(piece) is np.ndarray
    assert np.array_equal(
        piece, streams_of(codes, batch=3, seq_length=7, characters=1000).read(5, 2)
    )


@pytest.mark.parametrize("mode", ["r", "c"])
@pytest.mark.parametrize(("start", "stop", "step"), [(0, 1000, 1), (300, 900, 1), (1, 1000, 3)])
def test_slices_of_memory_mapped_codes(tmp_path, mode, start, stop, step):
    codes = np.arange(1000, dtype=np.uint16)
    np.save(tmp_path / "codes.npy", codes)
    mapped = np.load(tmp_path / "codes.npy", mmap_mode=mode)
    if mode == "c":
        mapped[500] = codes[500] = 7  # which is not in the file
    part = streams_of(mapped[100:][start:stop:step], 2, 5, 1000)
    expected = streams_of(codes[100:][start:stop:step], 2, 5, 1000)
    assert np.array_equal(part.read(0, part.chunks), expected.read(0, part.chunks))


@pytest.mark.parametrize("code", [65, 255, 2**32 - 1, -1])
def test_a_code_outside_the_vocabulary(code):
    codes = np.zeros(100, np.int64)
    codes[50] = code
    streams = streams_of(codes, 2, 7, characters=65)
    streams.read(1, 6)
    with pytest.raises(FastrnnError) as caught:
        streams.read(0, 1)
    assert str(caught.value) == (
        "the text is damaged, it has codes that stand for none of its 65 characters; read it again"
    )


@given(st.data())
def test_every_order_reads_the_text(data):
    """A target follows its input in the text, and chunks that do not overlap read it once."""
    T, B = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    length = data.draw(st.integers(B * T + 1, 80))
    overlapping = data.draw(st.booleans())
    text = EncodedText(np.arange(length), length)
    chunks = Chunks(text, B, T, overlapping, seed=3)
    for epoch in range(2):
        read = chunks.read(0, chunks.chunks, epoch).reshape(chunks.chunks, T + 1, B)
        assert (np.diff(read, axis=1) == 1).all()
        if not overlapping:
            inputs = read[:, :T].ravel()
            assert len(set(inputs)) == len(inputs) == chunks.predictions
    again = Chunks(text, B, T, overlapping, seed=3)
    assert np.array_equal(again.read(0, again.chunks, 1), chunks.read(0, chunks.chunks, 1))
    first = data.draw(st.integers(0, chunks.chunks - 1))
    part = chunks.read(first, 1, 1)
    assert np.array_equal(part, chunks.read(0, chunks.chunks, 1)[first * (T + 1) :][: T + 1])


lines = st.lists(st.lists(st.integers(1, 9), max_size=7), min_size=1, max_size=30)


def items_in(stream):
    """The items of a stream, between separators of 0."""
    text = "".join(map(str, stream))
    return [item for item in text.split("0") if item]


def lines_in(codes, no_part=-1):
    return Lines(EncodedText(codes, 10), 0, no_part)


@given(lines, st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_items_are_dealt_out_whole(items, batch, seq_length, is_ended):
    codes = [code for item in items for code in [*item, 0]]
    codes = np.array(codes if is_ended else codes[:-1], np.uint8)
    given = sorted("".join(map(str, item)) for item in items if item)
    lines = lines_in(codes)
    if not given:
        with pytest.raises(FastrnnError, match="the text has 0 lines"):
            Items(lines, batch, seq_length)
        return
    in_order = Items(lines, batch, 1)
    streams = in_order.read(0, in_order.chunks).T
    assert sorted(item for stream in streams for item in items_in(stream)) == given
    # All that is predicted: every character, and the end of every item.
    ends = (streams[:, :-1] == 0) & (streams[:, 1:] == 0)
    assert ends[:, :-1].size + len(streams) - ends.sum() == in_order.predictions
    try:
        shuffled = Items(lines, batch, seq_length, seed=1)
    except FastrnnError:
        return
    read = [shuffled.read(0, shuffled.chunks, epoch) for epoch in (0, 1, 0)]
    assert np.array_equal(read[0], read[2])
    for streams in read:
        assert streams.shape == (shuffled.chunks * seq_length + 1, batch)
        for stream in streams.T:
            assert stream[0] == 0
            whole = items_in(stream)[:-1]  # the last may be cut off
            assert not set(whole) - set(given)
    # However it is divided.
    first = shuffled.chunks // 3
    part = shuffled.read(first, shuffled.chunks - first, 0)
    assert np.array_equal(part, read[0][first * seq_length :])


def test_lines_of_memory_mapped_codes(tmp_path, monkeypatch):
    """Read piece by piece from the file they are the same; of a line only what is needed."""
    codes = np.random.default_rng(0).integers(0, 10, 1000).astype(np.uint8)
    codes[200:700] = 3
    codes.tofile(tmp_path / "codes")
    expected = Items(lines_in(codes), 3, 7, seed=2)
    monkeypatch.setattr(module, "PIECE", 64)
    mapped = EncodedText(np.memmap(tmp_path / "codes", np.uint8, "r"), 10)
    items = Items(Lines(mapped, 0), 3, 7, seed=2)
    longest = 0
    passages = EncodedText.passages

    def watched(text, starts, lengths):
        nonlocal longest
        longest = max(longest, *lengths)
        return passages(text, starts, lengths)

    monkeypatch.setattr(EncodedText, "passages", watched)
    for chunk in range(items.chunks):
        assert np.array_equal(items.read(chunk, 1, 1), expected.read(chunk, 1, 1))
    assert longest == 8


def test_lines_ask_for_their_memory_before_they_take_it(monkeypatch):
    codes = np.zeros(1000, np.uint8)
    monkeypatch.setattr(memory, "allowed", lambda: 1001 * module.LINE_BYTES)
    lines_in(codes)
    monkeypatch.setattr(memory, "allowed", lambda: 1001 * module.LINE_BYTES - 1)
    with pytest.raises(FastrnnError) as caught:
        lines_in(codes)
    assert str(caught.value) == (
        "lines is True: the places of the lines would take 56 kB of memory, and this process may "
        "have 56 kB; leave it out, or train on a part of the text"
    )


def test_a_character_that_is_no_part_of_a_line():
    lines = lines_in(np.array([7, 1, 7, 0, 7, 0, 2, 2, 0, 0, 7, 7], np.uint8), no_part=7)
    assert lines.starts.tolist() == [0, 6, 10]
    assert lines.lengths.tolist() == [2, 2, 1]


def test_next_line(monkeypatch):
    monkeypatch.setattr(module, "PIECE", 2)
    codes = np.array([5, 0, 5, 5, 5, 5, 0, 0, 5])
    starts = [next_line(codes, place, 0) for place in range(len(codes) + 1)]
    assert starts == [0, 2, 2, 7, 7, 7, 7, 7, 8, 9]
