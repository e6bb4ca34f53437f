"""Sentence templates of studies in the laboratory, in volunteers and of germs; see `rendering` and `cases`."""

from compactbio.demo import cases
from compactbio.demo.scheme import Scheme
from compactbio.demo.shared_sentences import DISEASE_BACKGROUND, GENE_BACKGROUND, LABORATORY_LIMITS, LIMITS, STATISTICS

EXPRESSION = Scheme(
    "expression",
    cases.genetics,
    (
        "{gene} expression in [the |]{tissue} of patients with {disease}. => gene associated_with disease",
        "[Altered|Increased|Aberrant] expression of {gene} in {disease}[ and its clinical significance|]."
        " => gene associated_with disease",
        "[Transcriptome|Gene expression|RNA sequencing] analysis [identifies|points to] {gene} in {disease}."
        " => gene associated_with disease",
        "{gene} as a [biomarker|prognostic marker|candidate marker] of {disease}. => gene associated_with disease",
    ),
    (
        (1, 1, GENE_BACKGROUND),
        (0, 1, DISEASE_BACKGROUND),
        (
            1,
            1,
            (
                "We [measured|quantified|compared] {gene} expression in {tissue} from {n1} patients with {disease}"
                " and {n2} [healthy |]controls.",
                "[Samples|Specimens] of {tissue} were [obtained|collected] from {n1} patients with {disease} and {n2}"
                " controls.",
                "The study [included|comprised] {n} subjects: {n1} with {disease} and {n2} without.",
            ),
        ),
        (
            0,
            1,
            (
                "Expression was [measured|determined] by quantitative polymerase chain reaction and [Western"
                " blotting|immunohistochemistry].",
                "RNA [was extracted and sequenced|was sequenced] [in {samples} samples|to a depth of {samples}"
                " million reads][, and differential expression was tested with a linear model|].",
                "Protein levels were [assessed|confirmed] by [immunohistochemistry|Western blotting|flow cytometry].",
            ),
        ),
        (0, 1, STATISTICS),
        (
            1,
            2,
            (
                "{gene} mRNA was {fold}-fold higher in [patients with {disease}|{disease}] than in controls ({q})."
                " => gene associated_with disease",
                "[We found|There were] {genes_up} genes with increased and {genes_down} genes with decreased"
                " expression, [among them|including] {gene}.",
                "[High|Strong] {gene} [expression|staining] was [found|seen] in {e1} of {n1} patients ({pct1}) and in"
                " {e2} of {n2} controls ({pct2}; {p})."
                " => gene associated_with disease",
                "{gene} was [upregulated|overexpressed] in {tissue} but not in {tissue2} of patients with {disease}."
                " => gene associated_with disease",
            ),
        ),
        (
            0,
            2,
            (
                "{gene} levels [correlated|were correlated] with {marker} (r = {rho}, {q2}).",
                "[By contrast|In contrast], [the expression of |]{other_gene}, {a:other_gene_product}, did not"
                " [change|differ between groups].",
                "[Knockdown|Silencing] of {gene} in {cells} [reduced|lowered] proliferation by {drop}%.",
                "The area under the curve of {gene} for [the diagnosis of |]{disease} was {area}.",
                "[Treatment with|Exposure to] {drug} reduced the activity of {gene} in {cells} by {drop}%."
                " => drug targets gene",
                "{other_gene} [and other genes of {other_gene_pathway} were|was] [unchanged|not affected] in"
                " {disease}.",
            ),
        ),
        (0, 1, LIMITS + LABORATORY_LIMITS),
        (
            1,
            1,
            (
                "[These|Our] [results|data] [suggest|indicate] that {gene} [contributes to|plays a role in|is"
                " involved in] {disease}."
                " => gene associated_with disease",
                "{gene} may [serve as|be] a [biomarker|therapeutic target] in {disease}."
                " => gene associated_with disease",
                "[Our findings|The findings] link {gene_pathway} to {disease}[ and make {gene} a candidate target|].",
            ),
        ),
    ),
    (
        ("Which gene is associated with {disease}?", "gene"),
        ("In which disease was the expression of {gene} altered?", "disease"),
        ("What does {gene} encode?", "gene_product"),
        ("How many patients with {disease} were studied?", "n1"),
    ),
)

ASSOCIATION = Scheme(
    "association",
    cases.genetics,
    (
        "Association of {gene} [polymorphisms|variants] with {disease}[: a case-control study|]."
        " => gene associated_with disease",
        "[Rare|Common|Germline] variants of {gene} and [the risk of|susceptibility to] {disease}."
        " => gene associated_with disease",
        "{gene} [mutations|variants] in {disease}: a study of {n} [subjects|individuals]."
        " => gene associated_with disease",
        "[A case-control|A genetic] study of {gene} and {other_gene} in {disease}.",
    ),
    (
        (0, 1, DISEASE_BACKGROUND),
        (1, 1, GENE_BACKGROUND),
        (
            1,
            1,
            (
                "We [genotyped|sequenced] {gene} in {n1} patients with {disease} and {n2} [unaffected |healthy"
                " |]controls.",
                "[This case-control study|The study] included {n} subjects, {n1} patients with {disease} and {n2}"
                " controls.",
                "DNA from {n1} patients and {n2} controls was [sequenced|genotyped] for variants of {gene} and"
                " {other_gene}.",
            ),
        ),
        (
            0,
            1,
            (
                "[Patients|Participants] were recruited [at|in] {centers} {clinic} between {year1} and {year2}.",
                "The mean age was {age} years, and {women} of the {n} subjects ({women_pct}) were women.",
                "[Genotypes|Allele frequencies] were in Hardy-Weinberg equilibrium in controls.",
                "Odds ratios were [calculated|estimated] by logistic regression adjusted for age and sex.",
            ),
        ),
        (0, 1, STATISTICS),
        (
            1,
            2,
            (
                "The [risk|minor] allele of {rs} in {gene} was [carried by|found in] {e1} of {n1} patients ({pct1})"
                " and {e2} of {n2} controls ({pct2}; {p})."
                " => gene associated_with disease",
                "Carriers of the {gene} variant had an odds ratio of {or} ({or_ci}) for {disease}."
                " => gene associated_with disease",
                "The variant {rs} of {gene} was associated with {disease} (odds ratio {or}, {or_ci})."
                " => gene associated_with disease",
                "[Mutations|Pathogenic variants] of {gene} were [detected|identified] in {e1} of {n1} patients"
                " ({pct1})."
                " => gene associated_with disease",
            ),
        ),
        (
            0,
            2,
            (
                "No association was [found|seen] [for|with] {null_gene}[, {a:other_gene_product}|].",
                "[Carriers|Variant carriers] had higher {marker} than noncarriers ({q}).",
                "The minor allele frequency was {freq} in controls.",
                "{symptom} and {symptom2} were [more common|equally common] [in|among] carriers[ of the {gene}"
                " variant|].",
                "[Variants|Mutations] of {gene} [also|may also] influence the response to {drug}. => drug targets gene",
            ),
        ),
        (0, 1, LIMITS),
        (
            1,
            1,
            (
                "[Our|These] [data|results] confirm that {gene} is [a susceptibility gene for|associated with]"
                " {disease}."
                " => gene associated_with disease",
                "[In conclusion, |]variants of {gene} [contribute to|increase] the risk of {disease}."
                " => gene associated_with disease",
                "[Genetic testing|Testing] for {gene} may [help|be useful] in [families|patients] with {disease}."
                " => gene associated_with disease",
            ),
        ),
    ),
    (
        ("Which gene was associated with {disease}?", "gene"),
        ("With which disease are variants of {gene} associated?", "disease"),
        ("How many controls were studied?", "n2"),
        ("For which gene was no association with {disease} found?", "null_gene"),
    ),
)

ANIMAL = Scheme(
    "animal",
    cases.laboratory,
    (
        "{drug} [attenuates|ameliorates|reduces] experimental {disease} in {animals}.",
        "[Effects|Protective effects|Efficacy] of {drug} in a {animal} model of {disease}.",
        "{drug} acts through {gene} in [a {animal} model of {disease}|{animals} with experimental {disease}]."
        " => drug targets gene",
        "[Role|Contribution] of {gene} [to|in] the [response|effect] of {drug} in {animals}. => drug targets gene",
    ),
    (
        (0, 1, DISEASE_BACKGROUND),
        (
            1,
            1,
            (
                "{drug}, {a:drug_family}, [targets|acts on|inhibits] {gene}[, {a:gene_product}|]. => drug targets gene",
                "{drug} is used for {disease}, but its [effects on|role in] {gene_pathway} [are|remain]"
                " [unclear|poorly understood]."
                " => drug treats disease",
                "The {drug_family} {drug} is [used to treat|given for] {disease}. => drug treats disease",
                "{gene}, {a:gene_product} of {gene_pathway}, is the target of {drug}. => drug targets gene",
            ),
        ),
        (
            1,
            1,
            (
                "We [studied|tested|examined] the effect of {drug} in a {animal} model of {disease}.",
                "[Here we|We] asked whether {drug} [protects|reduces injury in] {animals} with experimental {disease}.",
                "The aim was to [clarify|define] how {drug} acts on {tissue} in {animals}.",
            ),
        ),
        (
            1,
            1,
            (
                "A total of {total} [male |female |adult |]{animals} were [divided|randomized] into {groups} groups"
                " of {group}.",
                "{animals} ({group} per group) received {drug} {mgkg} mg/kg or vehicle [daily |]for {weeks} weeks.",
                "{total} {animals} were treated with {drug} at {mgkg} mg/kg or with vehicle for {weeks} weeks.",
            ),
        ),
        (
            0,
            1,
            (
                "[Sections|Samples] of {tissue} were [examined|analyzed] by histology and [Western"
                " blotting|immunofluorescence|quantitative polymerase chain reaction].",
                "{marker} and {marker2} were [measured|recorded] [weekly|at the end of the experiment].",
                "[Gene expression|The expression of {gene} and {other_gene}] in {tissue} was [measured|determined]"
                " after {weeks} weeks.",
            ),
        ),
        (0, 1, STATISTICS),
        (
            1,
            2,
            (
                "{drug} [lowered|reduced] the severity of {disease} by {drop}% compared with vehicle ({q})."
                " => drug treats disease",
                "[In {animals} given {drug}|After treatment], {marker} differed by {drop}% from that of controls"
                " ({q2}).",
                "{drug} [lowered|decreased|reduced] the activity of {gene} in {tissue} by {drop2}% ({q})."
                " => drug targets gene",
                "[Treated {animals}|{animals} given {drug}] [showed|had] less damage of {tissue} than controls ({q2}).",
                "[The expression|Expression] of {gene} in {tissue} was {fold}-fold higher in [untreated|diseased]"
                " {animals} than in {animals} given {drug}."
                " => drug targets gene",
            ),
        ),
        (
            0,
            2,
            (
                "{drug} [had no effect on|did not alter] {null_gene}[, {a:other_gene_product}|].",
                "[Deletion|Loss] of {gene} abolished the [effect|benefit] of {drug}. => drug targets gene",
                "{effect} was [observed|noted] in [some|a few] {animals} at the highest dose of {drug}."
                " => drug induces effect",
                "[No|No significant] effect on body weight [was seen|was observed].",
                "The [effect|benefit] of {drug} [was dose-dependent|increased with the dose]{?placebo}.",
            ),
        ),
        (0, 1, LABORATORY_LIMITS),
        (
            1,
            1,
            (
                "[These|Our] [results|data|findings] [show|indicate] that {drug} acts [via|through] {gene} in"
                " {disease}."
                " => drug targets gene; drug treats disease",
                "[Thus, |In conclusion, |]{drug} [protects|protected] {animals} [against|from] experimental"
                " {disease}[ by modulating {gene_pathway}|]."
                " => drug treats disease",
                "The {gene_product} {gene} [mediates|accounts for] the effect of {drug} [on {gene_pathway}|in"
                " {animals}]."
                " => drug targets gene",
            ),
        ),
    ),
    (
        ("Which animals were given {drug}?", "animals"),
        ("Through which gene does {drug} act?", "gene"),
        ("Which drug was tested in a model of {disease}?", "drug"),
        ("Which disease was modeled in {animals}?", "disease"),
        ("Which gene did {drug} leave unchanged?", "null_gene"),
    ),
)

IN_VITRO = Scheme(
    "in-vitro",
    cases.laboratory,
    (
        "{drug} [inhibits|modulates|suppresses] {gene_pathway} in {cells}.",
        "[Effects|In vitro effects|Mechanism of action] of {drug} [on|in] {cells}.",
        "{drug} targets {gene} in {cells}[: implications for {disease}|]. => drug targets gene",
        "[Sensitivity|Response] of {cells} to the {drug_family} {drug}.",
    ),
    (
        (1, 1, GENE_BACKGROUND),
        (
            1,
            1,
            (
                "{drug} is {a:drug_family} [used in|given for] {disease} that [acts on|targets] {gene}."
                " => drug treats disease; drug targets gene",
                "{drug} [acts on|binds|targets] {gene}, but its effects in {cells} are [unknown|not well defined]."
                " => drug targets gene",
                "The {drug_family} {drug} is [active|effective] in {disease}. => drug treats disease",
            ),
        ),
        (
            1,
            2,
            (
                "{cells} were [treated|incubated] with {drug} (from {low} to {high} uM) for {hours} hours.",
                "Viability was [measured|assessed] after {hours} hours[ with a colorimetric assay|], and apoptosis by"
                " flow cytometry.",
                "Protein levels were determined by [Western blotting|immunoblotting|mass spectrometry].",
                "{gene} was silenced with small interfering RNA [in {cells}|to test its role].",
            ),
        ),
        (0, 1, STATISTICS),
        (
            1,
            2,
            (
                "{drug} [inhibited|reduced] the [growth|proliferation|viability] of {cells} with an IC50 of {ic50} uM.",
                "[Treatment with|Exposure to] {drug} [reduced|lowered] {gene} activity by {drop2}% [within {hours}"
                " hours|at {high} uM] ({q})."
                " => drug targets gene",
                "At {high} uM, {drug} reduced {gene_pathway} by {drop}% ({q2}).",
                "{drug} [bound to|acted directly on] {gene} [in|in lysates of] {cells}. => drug targets gene",
            ),
        ),
        (
            0,
            3,
            (
                "[Expression|The level] of {null_gene}, {a:other_gene_product}, was not [affected|changed] by {drug}.",
                "[Silencing|Loss] of {gene} made {cells} {fold}-fold less sensitive to {drug}. => drug targets gene",
                "[The combination|Combined treatment] with {control} [had an additive effect|was"
                " synergistic]{?active}.",
                "[Resistant|Drug-resistant] {cells} [showed|had] {fold}-fold higher expression of {gene}.",
                "[Overexpression of|Forced expression of] {gene} [restored|rescued] {gene_pathway}.",
                "The [proportion|fraction] of apoptotic cells rose by {drop}% after {hours} hours.",
            ),
        ),
        (0, 1, LABORATORY_LIMITS),
        (
            1,
            1,
            (
                "[These|Our] [data|results] [show|suggest] that {gene} [mediates|determines] the response to {drug}["
                " in {disease}|]."
                " => drug targets gene",
                "[In summary|In conclusion], {drug} [impairs|alters|modulates] {gene_pathway} [through|by acting on]"
                " {gene}."
                " => drug targets gene",
                "[These findings|The findings] support {drug} as a treatment of {disease}[ and {gene} as its target|]."
                " => drug treats disease; drug targets gene",
            ),
        ),
    ),
    (
        ("What is the target of {drug}?", "gene"),
        ("Which cells were treated with {drug}?", "cells"),
        ("What was the IC50 of {drug} in uM?", "ic50"),
        ("Which gene was not affected by {drug}?", "null_gene"),
        ("Which drug acts on {gene}?", "drug"),
    ),
)
