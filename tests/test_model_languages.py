"""The languages of each family of models: every name and code that is printed is accepted, and what reaches the model is its own layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_language_names import facts
from test_translate import tiny
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES as FAIRSEQ
from transformers.models.mbart50.tokenization_mbart50 import FAIRSEQ_LANGUAGE_CODES as MBART_50

from llmkit.engines.base import ModelFacts
from llmkit.engines.chat import ChatSettings
from llmkit.engines.decoding import Decoding
from llmkit.engines.torch.engine import TorchEngine
from llmkit.engines.torch.loading import load
from llmkit.errors import InputError, UsageError
from llmkit.models.settings import ModelSettings
from llmkit.translation.families import Family, family
from llmkit.translation.languages import detect, language

#: What MADLAD-400's vocabulary holds in the form <2...>: languages, and scripts, regions and tasks.
MADLAD = (
    "Arab Armn Beng CA Cans Cher Cyrl Deva Ethi Geor Grek Gujr Guru Hans Hant Hebr IR Jpan Khmr Knda Kore Latn Mlym Mymr NL Orya RU Taml "
    "Telu Tfng Thaa Thai Tibt ZW abt ace ace_Arab acf ada adh ady af agr ahk ak akb alt alz am amu an ang ann ape ar arn ary arz as av "
    "awa ay az az_RU ba back_translated ban bar bas bbc bci be ber ber_Latn bew bg bg_Latn bgp bho bi bik bim bjn bjn_Arab bm bn bn_Latn "
    "bo bqc br bru brx bs bts btx bua bug bum bus bzj ca cab cac cak cbk cce ce ceb cfm ch chk chm chr ckb cnh co cr_Latn crh crh_Latn "
    "crs cs ctd_Latn ctu cuk cv cy da de din dje djk dln doi dov dtp dv dwr dyu dz ee el el_Latn emp en en_xx_simple enq eo es et eu fa "
    "ff ffm fi fil fip fj fo fon fr fr_CA frp fur fuv fy ga gag gbm gd gl gn gof gom gom_Latn gor grc gsw gu gu_Latn gub guc guh gui gv "
    "gvl gym ha haw he hi hi_Latn hif hil hmn hne ho hr ht hu hui hus hvn hy iba ibb id ify ig ilo inb io is iso it iu ium izz ja jac jam "
    "jiv jv jvn ka kaa kaa_Latn kac kbd kbp kek kg kha kj kjg kjh kk kl km kmb kmz_Latn kn kn_Latn knj ko koi kos kr kr_Arab krc kri ks "
    "ks_Deva ksd ksw ktu ku kum kv kw kwi ky la laj lb lg lhu li lij lmo ln lo lrc lt ltg lu lus lv mad mag mai mak mam mas mass maz mbt "
    "mdf meo meu mfe mg mgh mh mi min miq mk mkn ml ml_Latn mn mni mps mqy mr mrj mrw ms ms_Arab ms_Arab_BN msb msi msm mt mwl my myv "
    "nan_Latn_TW ndc_ZW nds nds_NL ne new ngu nhe nia nij niq nl nn nnb no noa nog nr nso nus nut nv ny nyu nzi oc oj om or os otq pa pag "
    "pap pau pck pis pl pon ppk prs ps pt qu qub quc quf quh qup quy qvc qvi qvz qxr raj rcf rki rm rmc rn ro rom ru ru_Latn rw rwo sa "
    "sah sat_Latn sc scn sd sda se seh sg sh shn shp si sja sk skr sl sm smt sn so spp sq sr srm srn ss st stq su sus suz sv sw sxn syr "
    "szl ta ta_Latn tab taj taq taq_Tfng tbz tca tcy tdx te te_Latn teo tet tg th ti tiv tk tks tlh tll tly_IR tn to toj tr translate "
    "transliterate trp ts tsc tsg tt tuc tvl twu tyv tyz tzh tzj tzm tzo ubu udm ug uk ur uz ve vec vi wa wal war wo wuu xal xh yap yi yo "
    "yua zap zh zh_Hant zh_Latn zne zu zxx_xx_dtynoise zza "
)
MODELS = {
    "M2M100": facts("m2m_100", tokens=tuple(f"__{code}__" for code in FAIRSEQ["m2m100"])),
    "mBART-50": facts("mbart", tokens=tuple(MBART_50)),
    "mBART-25": facts("mbart", tokens=tuple(MBART_50[:25])),
    "MADLAD": facts("t5", tokens=tuple(f"<2{code}>" for code in MADLAD.split())),
    "Marian": facts("marian", reference="opus-mt-tc-big-en-zle", tokens=(">>bel<<", ">>rus<<", ">>ukr<<", ">>orv_Cyrl<<", ">>rue<<")),
}  # fmt: skip


@pytest.mark.parametrize(("name", "count"), [("M2M100", 100), ("mBART-50", 52), ("mBART-25", 25), ("MADLAD", 452), ("Marian", 5)])
def test_every_name_tag_and_code_that_a_model_prints_is_accepted_and_means_its_own_row(name: str, count: int) -> None:
    model = family(MODELS[name])
    assert (model.name, len(model.targets)) == (name, count)
    for lang, code in model.targets:
        other = language("fr" if lang.primary == "en" else "en")
        for text in (lang.name, lang.tag, code, code.strip("<>_").removeprefix("2")):
            direction = model.direction(other if model.needs_source else None, language(text))
            assert (direction.target_token or direction.start_token or direction.prefix.strip()) == code, text


def test_scripts_regions_and_tasks_of_madlad_are_no_languages() -> None:
    tokens = {token for _, token in family(MODELS["MADLAD"]).targets}
    for token in ("<2Latn>", "<2NL>", "<2translate>", "<2en_xx_simple>", "<2zxx_xx_dtynoise>", "<2mass>"):
        assert token not in tokens


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("fr", "<2fr>"), ("fr-CA", "<2fr_CA>"), ("fr-BE", "<2fr>"), ("zh-TW", "<2zh_Hant>"), ("Chinese", "<2zh>"), ("nb", "<2no>"),
        ("nn", "<2nn>"), ("Tagalog", "<2fil>"), ("hi-Latn", "<2hi_Latn>"), ("arb", "<2ar>"), ("Hebrew", "<2he>"), ("iw", "<2he>"),
    ],
)  # fmt: skip
def test_madlad_is_told_the_nearest_of_its_languages(asked: str, code: str) -> None:
    assert family(MODELS["MADLAD"]).direction(None, language(asked)).prefix == f"{code} "


@pytest.mark.parametrize(
    ("name", "sources", "targets"),
    [
        ("opus-mt-tc-big-hu-en", ["hu"], ["en"]), ("opus-mt-en-ROMANCE", ["en"], []), ("opus-mt-mul-en", [], ["en"]),
        ("opus-mt-tc-bible-big-mul-deu_eng", [], ["de", "en"]), ("opus-mt-NORTH_EU-NORTH_EU", [], []),
        ("opus-mt-tc-base-uk-hu", ["uk"], ["hu"]),
        ("opus-mt-tc-big-gmq-gmq", [], []), ("opus-mt-cat_oci_spa-en", ["ca", "oc", "es"], ["en"]), ("opus-mt-en-CELTIC", ["en"], []),
        ("opus-mt-SCANDINAVIA-SCANDINAVIA", [], []), ("opus-mt-de-NORWAY", ["de"], []), ("opus-mt-fi-ZH", ["fi"], []),
        ("opus-mt-iir-en", [], ["en"]), ("opus-mt-en-sla", ["en"], []), ("opus-mt-zh-en", ["zh"], ["en"]),
        ("opus-mt-en-pt_BR", ["en"], ["pt-BR"]),
    ],
)  # fmt: skip
def test_groups_in_the_names_of_opus_models_are_no_single_language(name: str, sources: list[str], targets: list[str]) -> None:
    model = family(facts("marian", reference=f"Helsinki-NLP/{name}"))
    assert [lang.tag for lang, _ in model.sources] == sources
    assert [lang.tag for lang, _ in model.targets] == targets


@pytest.mark.parametrize(
    ("reference", "sides"),
    [
        ("me/marian-finetuned-kde4-hu-to-en", ("", "")), ("models/translator_hu_en", ("", "")), ("models/hungarian-english", ("", "")),
        ("models/mine", ("hu", "en")), ("models/hun2eng", ("", "")), ("models/v2-en-hu-final", ("hun", "eng")),
    ],
)  # fmt: skip
def test_a_marian_models_direction_is_that_of_its_name_or_its_tokenizer(reference: str, sides: tuple[str, str]) -> None:
    told = facts("marian", reference=reference, languages=("en", "hu"))
    model = family(ModelFacts(**{**vars(told), "sides": sides}))
    direction = model.direction(None, None)
    assert (direction.source, direction.target) == (language("hu"), language("en"))
    with pytest.raises(UsageError):
        model.direction(language("en"), language("hu"))


def test_a_marian_model_that_tells_no_direction_is_asked_for_one() -> None:
    model: Family = family(facts("marian", reference="models/mine", languages=("en", "hu")))
    for source, target in (("en", "hu"), ("hu", "en")):
        for given in ((language(source), None), (None, language(target)), (language(source), language(target))):
            direction = model.direction(*given)
            assert (direction.source, direction.target) == (language(source), language(target))
    with pytest.raises(UsageError, match="no target language"):
        model.direction(None, None)


def test_mbart_25_reads_its_language_behind_the_text_and_starts_with_the_targets(tmp_path: Path) -> None:
    tokens = MBART_50[:25]
    engine = TorchEngine(load(ModelSettings(str(tiny("MBart", tmp_path / "model", list(tokens))))), chat=ChatSettings("none"))
    direction = family(engine.facts()).direction(language("en"), language("ro"))
    decoding = Decoding(max_new_tokens=5, start_token=direction.start_token, logprobs=True)
    request = engine.make_request(direction.prompt("ab"), decoding)
    assert list(request.tokens) == [*engine.encode("ab"), 257, 259 + tokens.index("en_XX")]
    (answer,) = engine.generate([request], decoding)[0]
    (other,) = engine.generate([request], Decoding(max_new_tokens=5, start_token="fr_XX", logprobs=True))[0]
    assert answer.logprobs is not None
    assert other.logprobs is not None
    assert [token.logprob for token in answer.logprobs] != [token.logprob for token in other.logprobs]
    # the probabilities are those that a decoder gives that reads the target's language first
    import torch

    start = 259 + tokens.index("ro_RO")
    with torch.inference_mode():
        logits = engine.model(input_ids=torch.tensor([request.tokens]), decoder_input_ids=torch.tensor([[start]])).logits
    best = torch.log_softmax(logits[0, -1].float(), -1).max()
    assert answer.logprobs[0].logprob == pytest.approx(float(best), abs=1e-4)


@pytest.mark.parametrize("text", ["OK", "Hello", "Merci"])
def test_a_text_that_is_too_short_to_tell_its_language_is_refused_with_what_it_may_be(text: str) -> None:
    with pytest.raises(InputError, match="too short to tell its language: it may be") as error:
        detect(text, [language(tag) for tag in ("en", "fr", "de", "es", "it", "fi")])
    assert "`from`" in (error.value.hint or "")


@pytest.mark.parametrize(
    ("text", "tag"), [("Good morning.", "en"), ("Bonjour mes amis", "fr"), ("Guten Tag", "de"), ("Où est la gare ?", "fr")]
)
def test_a_short_text_that_is_clear_is_told(text: str, tag: str) -> None:
    assert detect(text, [language(each) for each in ("en", "fr", "de", "es", "it", "fi")]) == language(tag)
