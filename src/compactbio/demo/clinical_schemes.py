"""Sentence templates of studies in patients; see `rendering` for how a template is read, `cases` for its slots."""

from compactbio.demo import cases
from compactbio.demo.scheme import Scheme
from compactbio.demo.shared_sentences import DISEASE_BACKGROUND, DRUG_BACKGROUND, ETHICS, LIMITS, STATISTICS

TRIAL = Scheme(
    "trial",
    cases.therapy,
    (
        "{drug} [versus|compared with] {control} in [patients|adults] with {disease}: a randomized [controlled"
        " |]trial.",
        "A [randomized|double-blind|multicenter|phase 3] trial of {drug} [for|in] {disease}.",
        "[Efficacy and safety|Efficacy|Safety and tolerability] of {drug} in [patients with|the treatment of]"
        " {disease}.",
        "{drug_route} {drug} for the treatment of {disease}: [results of|findings from] a {weeks}-week randomized"
        " study.",
        "Addition of {drug} to standard care in {disease}[: a randomized trial| improves {endpoint}{?sig}].",
    ),
    (
        (0, 1, DISEASE_BACKGROUND),
        (0, 1, DRUG_BACKGROUND),
        (
            1,
            1,
            (
                "We [compared {drug} with|tested {drug} against] {control} in [patients|adults] with {disease}.",
                "The aim of this [trial|study] was to [determine|find out] whether {drug} is [better than|superior"
                " to] {control} in {disease}.",
                "This [double-blind|open-label|randomized] trial [evaluated|examined] {drug} [{drug_dose}"
                " |][and|versus] {control} in patients with {disease}.",
            ),
        ),
        (
            1,
            1,
            (
                "A total of {n} patients [from|at] {centers} {clinic} were [randomized|randomly assigned] to {drug}"
                " (n = {n1}) or {control} (n = {n2}).",
                "Between {year1} and {year2}, we randomly assigned {n} patients to receive {drug} {drug_dose}"
                " {drug_schedule} (n = {n1}) or {control} (n = {n2}).",
                "We enrolled {n} patients, of whom {n1} received {drug} and {n2} received {control}[ for {weeks}"
                " weeks|].",
                "Of {n} [participants|patients] who underwent randomization, {n1} were assigned to {drug_route}"
                " {drug} and {n2} to {control}.",
            ),
        ),
        (
            0,
            1,
            (
                "The mean age was {age} years (SD {age_sd}), and {women} of the {n} patients ({women_pct}) were women.",
                "The primary [endpoint|outcome] was {endpoint} [at|after] {weeks} weeks.",
                "{endpoint} [at|after] {weeks} weeks was the primary outcome; secondary outcomes were {marker} and"
                " {marker2}.",
                "Patients were [assessed|followed] with {exam} [every four weeks|at baseline and at week {weeks}].",
            ),
        ),
        (0, 1, ETHICS + STATISTICS),
        (
            1,
            1,
            (
                "{endpoint} was [reached|achieved] in {e1} of {n1} patients ({pct1}) [given|treated with] {drug} and"
                " in {e2} of {n2} patients ({pct2}) [given|treated with] {control} ({p})."
                " => drug treats disease",
                "At week {weeks}, {e1} of {n1} patients ({pct1}) in the {drug} group and {e2} of {n2} patients"
                " ({pct2}) in the {control} group had {endpoint} ({p}).",
                "The rate of {endpoint} was {pct1} with {drug} and {pct2} with {control}, a difference of {diff}"
                " percentage points ({p}).",
            ),
        ),
        (
            0,
            2,
            (
                "Patients [who received|given] {drug} had a {drop}% reduction in {marker} over {weeks} weeks.",
                "The odds ratio for {endpoint} with {drug} was {or} ({or_ci}).",
                "{marker2} did not differ between the [two |treatment |]groups.",
                "The [effect|benefit] of {drug} was [similar|consistent] in [younger and older patients|women and"
                " men{?women}].",
                "[In a subgroup analysis|In exploratory analyses], {marker} at baseline did not predict the response"
                " to {drug}.",
            ),
        ),
        (
            0,
            1,
            (
                "{effect} [occurred|was reported|was seen] in {h1} of {n1} patients ({hpct1}) [given|in the group"
                " given] {drug} and in {h2} of {n2} patients ({hpct2}) given {control} ({hp})."
                " => drug induces effect",
                "[Adverse events|Side effects] were [mostly mild|mild to moderate], but {drug} [led to|caused]"
                " {effect} in {h1} patients."
                " => drug induces effect",
                "[Serious adverse|Adverse] events were [rare|infrequent] and [balanced|similar] between groups.",
                "No deaths [were related to|were attributed to] {drug}[ or {control.full}{?active}|].",
            ),
        ),
        (0, 1, LIMITS),
        (
            1,
            1,
            (
                "{?sig}[In conclusion, |]{drug} [raised|increased] the rate of {endpoint} [in patients with"
                " {disease}|in {disease}] compared with {control}."
                " => drug treats disease",
                "{?sig}{drug} was [more effective than|superior to] {control} [in|for the treatment of] {disease}."
                " => drug treats disease",
                "{?sig}These [results|findings|data] support the use of {drug} [{drug_dose} {drug_schedule} |]in"
                " {disease}."
                " => drug treats disease",
                "{?ns}{drug} was not [superior to|more effective than] {control} in [this trial of |]patients with"
                " {disease}.",
                "{?ns}[In conclusion, the|The] difference in {endpoint} between {drug} and {control} was not"
                " significant in {disease}.",
            ),
        ),
    ),
    (
        ("Which drug was compared with {control} in patients with {disease}?", "drug"),
        ("How many patients received {drug}?", "n1"),
        ("In which disease was {drug} tested?", "disease"),
        ("Which adverse effect did {drug} cause?", "effect"),
        ("On which gene product does {drug} act?", "gene"),
    ),
)

COHORT = Scheme(
    "cohort",
    cases.harm,
    (
        "{drug} and the risk of {effect}: a [population-based|nationwide|retrospective] cohort study.",
        "Incidence of {effect} in patients with {disease} [treated with|taking] {drug}.",
        "[Risk|Rate] of {effect} with {drug} compared with {control} in [routine care|clinical practice]{?active}.",
        "[Long-term|Cardiovascular and other] safety of {drug} in {disease}: a cohort study.",
    ),
    (
        (0, 1, DRUG_BACKGROUND),
        (0, 1, DISEASE_BACKGROUND),
        (
            1,
            1,
            (
                "We [examined|studied] whether {drug} [increases|raises] the risk of {effect} in patients with"
                " {disease}.",
                "Our objective was to [estimate|measure] the incidence of {effect} [among|in] users of {drug}.",
                "{effect} is a [known|recognized|rare but serious] adverse effect of {drug}. => drug induces effect",
            ),
        ),
        (
            1,
            2,
            (
                "[Using|From] [electronic health records|insurance claims|a national registry], we identified {n}"
                " patients with {disease}, of whom {n1} used {drug} and {n2} did not.",
                "This [retrospective|prospective] cohort study included {n1} users of {drug} and {n2} users of"
                " {control} [between|seen between] {year1} and {year2}{?active}.",
                "The cohort [comprised|consisted of] {n} adults ({women} women and {men} men) with a mean age of"
                " {age} years.",
                "Hazard ratios were [estimated|calculated] with Cox models adjusted for age, sex and {marker}.",
                "Patients were followed for a median of {months} months[ in {centers} {clinic}|].",
                "We used propensity scores to [balance|match] the groups for age, {marker} and [smoking|comorbidity].",
            ),
        ),
        (0, 1, STATISTICS),
        (
            1,
            2,
            (
                "{effect} [occurred|was recorded] in {h1} of {n1} patients ({hpct1}) [exposed to|taking] {drug} and"
                " in {h2} of {n2} patients ({hpct2}) in the comparison group ({hp})."
                " => drug induces effect",
                "The relative risk of {effect} with {drug} was {rr} ({rr_ci}). => drug induces effect",
                "The hazard ratio for {effect} was {rr} ({rr_ci}) in patients [exposed to|treated with] {drug}."
                " => drug induces effect",
                "During follow-up, {h1} users of {drug} and {h2} other patients developed {effect}."
                " => drug induces effect",
            ),
        ),
        (
            0,
            2,
            (
                "The risk was highest [in the first {months} months|at daily doses above {drug_dose}|in patients"
                " older than {age} years].",
                "[Results|Estimates] were [similar|unchanged] in [sensitivity|subgroup] analyses[ restricted to"
                " women|].",
                "{marker} at baseline was [higher|lower] in patients who [developed|later developed] {effect} ({q}).",
                "During follow-up, {e} of {n} patients ({pct}) achieved {endpoint}.",
                "No such [association|increase] was found for {control}{?active}.",
            ),
        ),
        (0, 1, LIMITS),
        (
            1,
            1,
            (
                "[In this cohort, |]{drug} was associated with [an increased|a higher] risk of {effect}."
                " => drug induces effect",
                "[Physicians|Clinicians] should be aware of {effect} when they prescribe {drug} for {disease}."
                " => drug induces effect; drug treats disease",
                "[Patients who take|Users of] {drug} should be [monitored|screened] for {effect}[, especially those"
                " with abnormal {marker2}|]."
                " => drug induces effect",
            ),
        ),
    ),
    (
        ("Which adverse effect is linked to {drug}?", "effect"),
        ("Which drug was associated with {effect}?", "drug"),
        ("How many patients developed {effect} on {drug}?", "h1"),
        ("For which disease did the patients take {drug}?", "disease"),
    ),
)

CASE_REPORT = Scheme(
    "case-report",
    cases.patient,
    (
        "{drug}-induced {effect}: a case report. => drug induces effect",
        "{effect} [after|during|following] treatment with {drug} in a patient with {disease}. => drug induces effect",
        "[A case of|Severe|Unexpected] {effect} associated with {drug}[: case report and review of the literature|]."
        " => drug induces effect",
        "{effect} in {a:age}-year-old {patient} [taking|treated with] {drug} for {disease}."
        " => drug induces effect; drug treats disease",
    ),
    (
        (
            1,
            2,
            (
                "{drug} is {a:drug_family} [used|prescribed|approved] for {disease}. => drug treats disease",
                "{effect} is a [rare|serious|recognized|potentially fatal] [complication|adverse effect] of {drug}."
                " => drug induces effect",
                "Only a few [cases|reports] of {effect} [due to|caused by] {drug} have been published."
                " => drug induces effect",
                "[Drugs|Medicines] such as {drug} act on {gene}, {a:gene_product}. => drug targets gene",
            ),
        ),
        (
            1,
            1,
            (
                "{a:age}-year-old {patient} with {disease} [presented|was admitted] with {symptom} and {symptom2}.",
                "We [report|describe] {a:age}-year-old {patient} who developed {effect} {days} days after starting"
                " {drug} for {disease}."
                " => drug induces effect; drug treats disease",
                "We present the case of {a:age}-year-old {patient} with a history of {disease} who was"
                " [treated|managed] with {drug} {drug_dose} {drug_schedule}."
                " => drug treats disease",
            ),
        ),
        (
            1,
            2,
            (
                "{she} had [taken|received] {drug} [{drug_dose} {drug_schedule} |]for {days} days.",
                "On [admission|examination], {her} {marker} was [abnormal|markedly abnormal] and {exam} [was"
                " performed|was ordered].",
                "{her} [other |regular |]medication [included|consisted of] {control}{?active}.",
                "{she} had no [family|previous] history of {effect}[ and did not smoke|].",
            ),
        ),
        (
            1,
            1,
            (
                "[Laboratory findings and|The clinical course and] {exam} [confirmed|were consistent with] [a"
                " diagnosis of |]{effect}.",
                "{effect} was diagnosed on the basis of [the history|the clinical picture] and {exam}.",
                "[After|Following] {exam}, a diagnosis of [{drug}-induced {effect}|{effect} due to {drug}] was made."
                " => drug induces effect",
            ),
        ),
        (
            1,
            2,
            (
                "{drug} was [stopped|withdrawn|discontinued], and {she} [recovered|improved] within {later} days.",
                "[After|Following] withdrawal of {drug}, {her} {marker2} returned to normal within {later} days.",
                "Treatment was [changed|switched] from {drug} to {control}{?active}[ without recurrence of {effect}|]."
                " => control treats disease",
                "At {visits}-month follow-up, {she} was [well|free of symptoms] and had no [recurrence of|signs of]"
                " {effect}.",
                "Rechallenge with {drug} was not attempted.",
            ),
        ),
        (
            1,
            1,
            (
                "This case [shows|illustrates] that {drug} can [cause|induce] {effect}[ in patients with {disease}|]."
                " => drug induces effect",
                "Clinicians should [consider|think of] {effect} in [any patient|patients] [taking|treated with]"
                " {drug}."
                " => drug induces effect",
                "Early recognition of {effect} and [prompt |]withdrawal of {drug} are [essential|important]."
                " => drug induces effect",
            ),
        ),
    ),
    (
        ("Which drug caused {effect}?", "drug"),
        ("Which adverse effect followed treatment with {drug}?", "effect"),
        ("How old was the {patient}?", "age"),
        ("For which disease was {drug} given?", "disease"),
    ),
)

REVIEW = Scheme(
    "review",
    cases.evidence,
    (
        "{drug} in [the treatment of|the management of] {disease}: a [systematic |narrative |]review.",
        "[Current|Emerging|New] [therapies|treatment options] for {disease}: the [role|place] of {drug}.",
        "Targeting {gene} in {disease}: [lessons from|the example of] {drug}. => drug targets gene",
        "[Pharmacology|Clinical pharmacology] of {drug}, {a:drug_family} for {disease}. => drug treats disease",
        "{disease}: [from mechanisms to treatment|pathophysiology and treatment|an update].",
    ),
    (
        (1, 2, DISEASE_BACKGROUND),
        (
            1,
            2,
            (
                "{drug} is {a:drug_family} that [inhibits|modulates|acts on] {gene}, {a:gene_product}."
                " => drug targets gene",
                "{drug} is [one of the drugs|an agent] [most often |]used for {disease}. => drug treats disease",
                "[Treatment|Drug] options [for {disease} |]include {drug} and {control}{?active}."
                " => drug treats disease; control treats disease",
                "{drug} is given by the {drug_route} route, [usually|most often] at {drug_dose} {drug_schedule}.",
                "{gene} encodes {a:gene_product} that takes part in {gene_pathway}.",
            ),
        ),
        (
            1,
            2,
            (
                "We [searched|reviewed] the literature published between {year1} and {year2} and [included|found]"
                " {centers} [trials|studies] of {drug}.",
                "This review [summarizes|discusses|outlines] the [evidence|data] on {drug} in {disease}.",
                "[Pooled|Combined] data from {centers} trials with {n} patients showed {endpoint} in {e} ({pct}).",
                "[Meta-analysis|A meta-analysis] of {centers} trials gave an odds ratio of {or} ({or_ci}) for"
                " {endpoint}.",
            ),
        ),
        (
            0,
            2,
            (
                "[In several trials|In a pivotal trial], {drug} {drug_dose} [improved|lowered] {marker} by {drop}%.",
                "[The main|The most feared] adverse effect of {drug} is {effect}. => drug induces effect",
                "Treatment with {drug} may be complicated by {effect}[, which calls for regular monitoring of"
                " {marker}|]."
                " => drug induces effect",
                "[Direct|Head-to-head] comparisons of {drug} and {control} [are rare|are few]{?active}.",
                "[The response to|Response to] {drug} [may depend on|depends on] {gene_pathway}[ and on {marker2}|].",
            ),
        ),
        (0, 1, LIMITS),
        (
            1,
            1,
            (
                "[In summary|Overall|Taken together], {drug} is an effective [option|treatment] for {disease}."
                " => drug treats disease",
                "[Future|Further] [trials|research] should [define|clarify] the place of {drug} in {disease}[ and"
                " identify patients who benefit most|].",
                "[A better understanding|Knowledge] of {gene} and {gene_pathway} may [lead to|guide] new"
                " [drugs|treatments] for {disease}.",
            ),
        ),
    ),
    (
        ("Which drug class does {drug} belong to?", "drug_family"),
        ("On which gene product does {drug} act?", "gene"),
        ("{!control}Which drug does the review discuss?", "drug"),
        ("Which disease is the review about?", "disease"),
        ("What is an adverse effect of {drug}?", "effect"),
    ),
)
