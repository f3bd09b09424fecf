"""What the untouched model writes before a prompt, and the texts that are read to it."""

from pathlib import Path

from editing.hparams import Contexts
from editing.model.state import State
from editing.model.view import ModelView
from editing.run import finish
from editing.stats.moments import read_texts
from editing.stats.prefixes import ensure_prefixes
from editing.step import Step
from tests.tiny import tiny_view


class TestPrefixes:
    def test_they_are_sampled_once_and_kept(self, tmp_path: Path) -> None:
        contexts = Contexts(prefixes=7, prefix_tokens=6)
        first = tiny_view("llama", stats_folder=tmp_path)
        steps = list[Step]()
        finish(ensure_prefixes(first, contexts, "w"), steps.append)
        assert [step.done for step in steps] == [1, 2, 3, 4, 5, 6]
        second = tiny_view("llama", stats_folder=tmp_path)
        assert list(ensure_prefixes(second, contexts, "w")) == []
        texts = second.stats.prefixes(contexts)
        assert texts == first.stats.prefixes(contexts)
        assert len(texts) == 7
        assert [text.split()[0][:3] for text in texts[:5]] == ["The", "The", "Bec", "I", "You"]

    def test_two_prefixes_with_one_start_differ(self, view: ModelView) -> None:
        contexts = Contexts(prefixes=10, prefix_tokens=10)
        finish(ensure_prefixes(view, contexts, "w"))
        texts = view.stats.prefixes(contexts)
        assert texts[0] != texts[5]

    def test_no_prefixes_may_be_asked_for(self, llama: ModelView) -> None:
        contexts = Contexts(prefixes=0)
        finish(ensure_prefixes(llama, contexts, llama.fingerprint(State())))
        assert llama.stats.prefixes(contexts) == ()


class TestReadingTexts:
    def test_a_file_gives_its_lines_without_the_empty_ones(self, tmp_path: Path) -> None:
        file = tmp_path / "a.txt"
        file.write_text("One.\n\n  Two. \n東京\n", encoding="utf-8")
        assert list(read_texts(file)) == ["One.", "Two.", "東京"]

    def test_a_folder_gives_its_text_files_in_a_fixed_order(self, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        for name, text in (("b.txt", "b"), ("a.txt", "a"), ("sub/c.txt", "c"), ("d.md", "d")):
            (tmp_path / name).write_text(text)
        assert list(read_texts(tmp_path)) == ["a", "b", "c"]
