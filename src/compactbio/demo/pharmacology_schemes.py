"""Sentence templates of studies in volunteers; see `rendering` and `cases`."""

from compactbio.demo import cases
from compactbio.demo.scheme import Scheme
from compactbio.demo.shared_sentences import DRUG_BACKGROUND, ETHICS, STATISTICS

KINETICS = Scheme(
    "pharmacokinetics",
    cases.kinetics,
    (
        "[Pharmacokinetics|Single-dose pharmacokinetics|Bioavailability] of {drug_route} {drug} in healthy volunteers.",
        "[Effect|Influence|Impact] of {enzyme} genotype on the pharmacokinetics of {drug}."
        " => drug metabolized_by enzyme",
        "{enzyme} [and|in] the metabolism of {drug}[, {a:drug_family}|]. => drug metabolized_by enzyme",
        "A [crossover|phase 1|population pharmacokinetic] study of {drug} [in {n} volunteers|at {drug_dose}].",
    ),
    (
        (1, 2, DRUG_BACKGROUND),
        (
            1,
            1,
            (
                "{drug} is [mainly |extensively |]metabolized by {enzyme}, {a:enzyme_product}."
                " => drug metabolized_by enzyme",
                "{enzyme} [is responsible for most of|accounts for] the clearance of {drug}."
                " => drug metabolized_by enzyme",
                "The {enzyme_product} {enzyme} [clears|metabolizes] {drug}[ in the liver|]."
                " => drug metabolized_by enzyme",
            ),
        ),
        (
            1,
            2,
            (
                "{n} healthy [volunteers|subjects] ([{women} women and {men} men; |]mean age {age} years) received"
                " {drug} {drug_dose}.",
                "In this [crossover|open-label] study, {n} volunteers received {drug_dose} of {drug_route} {drug} [in"
                " the fasted state|after a standard meal].",
                "Of {n} participants, {carriers} ({carriers_pct}) carried a reduced-function allele of {enzyme} and"
                " {others} did not.",
                "[Plasma|Blood] samples were [drawn|collected] for up to {hours} hours and analyzed by liquid"
                " chromatography with mass spectrometry.",
                "The treatment periods were separated by a washout of {wash} days.",
            ),
        ),
        (0, 1, ETHICS + STATISTICS),
        (
            1,
            3,
            (
                "The [mean|median] peak concentration of {drug} was {cmax} ng/mL and was reached after {tmax} hours.",
                "The [mean |]elimination half-life of {drug} was {half} hours.",
                "The area under the concentration-time curve was {auc} ng h/mL, with a coefficient of variation of"
                " {cv}%.",
                "Exposure to {drug} was {fold}-fold higher in [carriers of a reduced-function allele|poor"
                " metabolizers] of {enzyme} ({q})."
                " => drug metabolized_by enzyme",
                "[Clearance|Oral clearance] fell by {drop}% when {enzyme} was inhibited. => drug metabolized_by enzyme",
            ),
        ),
        (
            0,
            2,
            (
                "[Sex|Age|Food] had no [effect|influence] on the [exposure to|half-life of] {drug}.",
                "{drug} was well tolerated[, and no participant developed {effect}|].",
                "{effect} was reported by one [volunteer|participant] after {drug}. => drug induces effect",
                "[Higher|Increased] plasma concentrations may raise the risk of {effect}. => drug induces effect",
                "The [binding of {drug} to|effect of {drug} on] {gene} [was linear|followed the plasma concentration]."
                " => drug targets gene",
                "Clearance did not depend on {marker}.",
            ),
        ),
        (
            1,
            1,
            (
                "[Dose adjustment|A lower dose] of {drug} should be considered in [poor metabolizers of|patients with"
                " low activity of] {enzyme}."
                " => drug metabolized_by enzyme",
                "[These results|The findings] [show|confirm] that {enzyme} determines the [clearance of|exposure to]"
                " {drug}."
                " => drug metabolized_by enzyme",
                "The pharmacokinetics of {drug} support [{drug_schedule} dosing|a dose of {drug_dose}] in patients"
                " with {disease}."
                " => drug treats disease",
                "Genotyping of {enzyme} may [help to |]individualize [treatment with|the dose of] {drug} in {disease}."
                " => drug treats disease",
            ),
        ),
    ),
    (
        ("Which gene product metabolizes {drug}?", "enzyme"),
        ("What was the half-life of {drug} in hours?", "half"),
        ("Which drug was given to healthy volunteers?", "drug"),
        ("How many volunteers took part?", "n"),
        ("For which disease is {drug} used?", "disease"),
        ("After how many hours was the peak concentration of {drug} reached?", "tmax"),
    ),
)
