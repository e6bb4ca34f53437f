"""Sentence templates of studies of germs and of the infections they cause; see `rendering` and `cases`."""

from compactbio.demo import cases
from compactbio.demo.scheme import Scheme
from compactbio.demo.shared_sentences import DISEASE_COURSE, ETHICS, LABORATORY_LIMITS, LIMITS, STATISTICS

GERM_BACKGROUND = (
    "{species} is {a:kind} that [causes|can cause] {disease}. => species causes disease",
    "{species}, {a:kind}, is [a major cause|an important cause|the agent] of {disease}. => species causes disease",
    "{disease} is caused by {species}[, {a:kind}|]. => species causes disease",
)

MICROBIOLOGY = Scheme(
    "microbiology",
    cases.culture,
    (
        "[Susceptibility|In vitro susceptibility] of {species} to {drug}[ and {control}|].",
        "[Emergence|Spread|Prevalence] of {drug} resistance in [clinical isolates of |]{species}.",
        "In vitro activity of {drug} against {species}. => drug active_against species",
        "{drug} in infections with {species}: [a laboratory|an in vitro] study.",
        "[Molecular|Phenotypic] characterization of {species} from patients with {disease}. => species causes disease",
        "Genomic diversity of {species}[ in {disease}: a study of {n} isolates|]. => species causes disease",
    ),
    (
        (1, 1, GERM_BACKGROUND),
        (
            0,
            2,
            (
                "{drug}, {a:drug_family}, is [active against|used against] {species}. => drug active_against species",
                "[Treatment|Therapy] of {disease} relies on {drug}[ and {control}|]. => drug treats disease",
                "[The spread of resistance|Resistance] to {drug} threatens the [control|treatment] of {disease}.",
                "[Surveillance|Regular testing] of {species} is needed to guide [empirical |]treatment.",
            ),
        ),
        (
            1,
            2,
            (
                "We [collected|tested|analyzed] {n} isolates of {species} from {centers} {clinic} between {year1} and"
                " {year2}.",
                "A total of {n} [nonduplicate |clinical |]isolates of {species} were [obtained|recovered] from"
                " patients with {disease}."
                " => species causes disease",
                "{n} isolates of {species}, {s} susceptible and {r} resistant to {drug}, were [studied|sequenced].",
                "[Susceptibility|The susceptibility of {species}] was [determined|tested] by [broth"
                " microdilution|standard methods|gradient strips][ and interpreted with current breakpoints|].",
                "Whole-genome sequencing was [done|performed] on all {n} isolates.",
            ),
        ),
        (0, 1, STATISTICS),
        (
            1,
            1,
            (
                "[Resistance to|Reduced susceptibility to] {drug} was [found|detected] in {r} of {n} isolates"
                " ({rpct}).",
                "Of the {n} isolates, {s} ({spct}) were susceptible [to {drug}|to {drug} and {r} ({rpct}) were"
                " resistant].",
                "{drug} was active against {s} of {n} isolates ({spct}) of {species}. => drug active_against species",
                "[By sequencing|By typing], the {n} isolates of {species} fell into {lineages} lineages.",
            ),
        ),
        (
            0,
            3,
            (
                "The MIC50 and MIC90 of {drug} were {mic50} and {mic90} mg/L.",
                "{drug} [killed|inhibited] {species} at {mic90} mg/L [within {days} days|in all experiments]."
                " => drug active_against species",
                "{control} [remained active|was also active] against {species}. => control active_against species",
                "[Resistance|The rate of resistance] rose from {pct2} in {year1} to {pct1} in {year2}{?sig}{?drug}.",
                "[Sequencing|Whole-genome sequencing] [identified|showed] {lineages} lineages[, one of which"
                " dominated|].",
                "[Most resistant isolates|Resistant isolates] came from [intensive care units|patients with earlier"
                " exposure to {drug}]{?drug}.",
                "The combination of {drug} and {control} [was synergistic|lowered the MIC] in {lineages} isolates.",
            ),
        ),
        (0, 1, LABORATORY_LIMITS[2:]),
        (
            1,
            1,
            (
                "{drug} [remains|is] [a good choice|an option] against {species}. => drug active_against species",
                "[Our data|These results] support {drug} for the [empirical |]treatment of {disease}."
                " => drug treats disease",
                "Continued surveillance of {species} [is warranted|is needed][ to preserve the activity of {drug}|].",
                "[These results|The findings] improve the understanding of {species} in {disease}."
                " => species causes disease",
            ),
        ),
    ),
    (
        ("{!control}Which drug was tested against {species}?", "drug"),
        ("Which species causes {disease}?", "species"),
        ("How many isolates were studied?", "n"),
        ("Which disease does {species} cause?", "disease"),
        ("What kind of organism is {species}?", "kind"),
    ),
)

OUTBREAK = Scheme(
    "outbreak",
    cases.germ,
    (
        "[An outbreak|Outbreak] of {disease} [in|at] {centers} {clinic}[: an epidemiological investigation|].",
        "[Epidemiology|Clinical features|Outcome] of {disease} [caused by|due to] {species}. => species causes disease",
        "[Risk factors for|Predictors of] {disease}: a [hospital-based|prospective|multicenter] study.",
        "[Incidence|Seroprevalence] of {species} infection [in patients seen at|among patients of] {clinic}.",
        "{drug} [for|in the treatment of] {disease}[ caused by {species}|]: [experience from|results in] {n} patients."
        " => drug treats disease; species causes disease",
    ),
    (
        (1, 1, GERM_BACKGROUND),
        (0, 1, DISEASE_COURSE),
        (
            1,
            1,
            (
                "We [studied|reviewed] {n} patients with {disease} who were seen at {centers} {clinic} between"
                " {year1} and {year2}.",
                "Between {year1} and {year2}, {n} cases of {disease} were [reported|recorded], [{women} in women and"
                " {men} in men|most of them in summer].",
                "[Data|Records] of {n} patients ({women} women and {men} men) with {disease} were [analyzed|reviewed].",
            ),
        ),
        (0, 1, ETHICS[:1] + STATISTICS),
        (
            1,
            2,
            (
                "The diagnosis was [made|confirmed] by {exam}, and {species} was found in {s} of {n} patients"
                " ({spct})."
                " => species causes disease",
                "The [median|mean] age was {age} years, and the main symptoms were {symptom} and {symptom2}.",
                "{symptom} was present in {e} of {n} patients ({pct}).",
                "[Investigators|Health workers] collected samples from the [environment|contacts] of all patients.",
                "In most patients, {species} was [identified|detected] by {exam}.",
            ),
        ),
        (
            1,
            3,
            (
                "[Treatment|Antimicrobial treatment] consisted of {drug} {drug_dose} {drug_schedule}."
                " => drug treats disease",
                "{endpoint} was [reached|seen] in {e1} of {n1} patients ({pct1}) treated with {drug} and in {e2} of"
                " {n2} patients ({pct2}) treated with {control} ({p})."
                " => drug treats disease",
                "[Exposure|Recent exposure] to [contaminated water|an infected household member|the hospital] was"
                " reported by {e1} of {n1} severe cases ({pct1}) and {e2} of {n2} mild cases ({pct2}; {p}).",
                "Severe {disease} was [more frequent|more common] in patients with high {marker} (odds ratio {score}).",
                "[Resistance to|Reduced susceptibility to] {drug} was found in {r} of {n} isolates ({rpct}).",
                "{marker} was [raised|abnormal] in {s} patients ({spct}).",
                "{drug} was [well tolerated|effective] and {species} became undetectable in most patients."
                " => drug active_against species",
            ),
        ),
        (0, 1, LIMITS),
        (
            1,
            1,
            (
                "[Early|Prompt] [diagnosis|testing] and treatment [with {drug} |]are important in {disease}.",
                "[In this outbreak|In this study], {species} was the [cause|confirmed cause] of {disease}[ in most"
                " patients|]."
                " => species causes disease",
                "[Prevention|Control] of {species} [should be|must be] [strengthened|a priority] [in|at] {clinic}.",
                "[Our experience|This series] supports {drug} as a treatment of {disease}. => drug treats disease",
            ),
        ),
    ),
    (
        ("Which species caused {disease}?", "species"),
        ("How many patients with {disease} were studied?", "n"),
        ("{!control}Which drug was used to treat {disease}?", "drug"),
        ("How many women had {disease}?", "women"),
        ("What kind of organism is {species}?", "kind"),
    ),
)
