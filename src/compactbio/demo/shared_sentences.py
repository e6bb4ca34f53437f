"""Sentence templates that several schemes share; see `rendering` for how a template is read."""

DISEASE_COURSE = (
    "{disease} [remains|is] [difficult to treat|hard to control|a burden] in many patients[ despite recent advances|,"
    " in particular in those with abnormal {marker}| and often requires lifelong follow-up].",
    "[New|Better|More effective] treatments for {disease} are [needed|urgently needed|still lacking][, since many"
    " patients do not achieve {endpoint}| because current therapy does not work in all patients|].",
    "{disease} is a [common|frequent] reason for [referral to|follow-up in] {clinic}[, where {exam} and {marker}"
    " guide the choice of treatment| and lowers the quality of life of those affected|].",
    "[Patients with|People living with] {disease} often [report|complain of] {symptom} [and|or] {symptom2}[, and"
    " their {marker} is frequently abnormal|].",
    "The [course|outcome|prognosis] of {disease} [varies widely|differs between patients|is hard to predict][, and"
    " reliable markers are lacking|, although {marker} and {marker2} give some guidance|].",
)
DISEASE_BACKGROUND = (
    *DISEASE_COURSE,
    "[Variants of|Changes in] {risk_gene}, which encodes {a:risk_gene_product}, are [linked to|associated with]"
    " {disease}[, but they explain only part of the cases|]."
    " => risk_gene associated_with disease",
    "{disease} is caused by {species}, {a:kind}[, and early treatment improves the outcome|]."
    " => species causes disease",
)
DRUG_BACKGROUND = (
    "{drug} is {a:drug_family} [that is |]used [for the treatment of|to treat|in the management of] {disease}[,"
    " usually at a dose of {drug_dose} {drug_schedule}|]."
    " => drug treats disease",
    "The {drug_family} {drug} [acts on|targets|binds to] {gene}, {a:gene_product}[ involved in {gene_pathway}|]."
    " => drug targets gene",
    "{drug} is [widely prescribed|an established option|recommended] for {disease}[, but its long-term safety is a"
    " matter of debate| and is mostly given by the {drug_route} route|]."
    " => drug treats disease",
    "[By acting on|Through its action on] {gene}, {drug} [interferes with|modulates] {gene_pathway}[, which explains"
    " most of its effects|]."
    " => drug targets gene",
    "[Long-term|Real-world|Comparative] data on {drug} in {disease} are [scarce|limited|conflicting][, and current"
    " guidelines rest on small studies|].",
)
GENE_BACKGROUND = (
    "{gene} encodes {a:gene_product} [involved in|that takes part in|that acts in] {gene_pathway}[, and its activity"
    " is tightly regulated in healthy tissue|].",
    "{gene}, {a:gene_product}, [has a central role in|is a key regulator of|contributes to] {gene_pathway}[, but its"
    " function in disease is incompletely understood|].",
    "The {gene_product} {gene} is [required for|part of|needed in] {gene_pathway}[ and has been studied in many cell"
    " types|].",
)
STATISTICS = (
    "Data were analyzed with [linear mixed models|logistic regression|analysis of variance|nonparametric tests], and"
    " a two-sided p value below 0.05 was considered [statistically |]significant.",
    "[Continuous variables|Results] are [given|presented] as mean and standard deviation, and groups were compared"
    " with [the t test|the Wilcoxon rank-sum test|analysis of variance] [as appropriate|unless stated otherwise].",
    "[Missing values were imputed|Missing values were rare], and all analyses were [adjusted for multiple"
    " comparisons|repeated after exclusion of outliers|carried out by a statistician who was unaware of the groups].",
)
ETHICS = (
    "The study was approved by the [institutional review board|local ethics committee], and all participants gave"
    " [written |]informed consent.",
    "[The protocol was registered|The study was registered] before the first participant was enrolled, and [an"
    " independent board monitored safety|the analysis plan was fixed in advance].",
)
LIMITS = (
    "[Limitations|The main limitations] of this [study|work] are [its small sample size|the short follow-up|the lack"
    " of blinding|missing data on comorbidity] and [its single ethnic group|possible confounding|the selection of"
    " patients].",
    "[Larger|Independent|Prospective] studies with [longer follow-up|more diverse populations|standardized methods]"
    " are [needed to confirm|required to verify] these [findings|results][ in {disease}|].",
    "[It remains to be seen|It is not known] whether these [findings|results] [apply|extend] to patients with more"
    " severe {disease}.",
    "The [strengths|main strengths] of [this|our] study are its [design|long observation|standardized methods] and"
    " the use of {exam} in all patients.",
)
LABORATORY_LIMITS = (
    "[Further|Additional] [experiments|studies] [should|are needed to] clarify [how|to what extent] these"
    " [findings|results] [apply to|can be extended to] patients with {disease}.",
    "A limitation of [this|our] work is that [a single model|one cell type|only one time point] was [studied|used],"
    " and confirmation in [primary|human] tissue is needed.",
    "[All experiments|Experiments] were [repeated|performed] at least three times with [similar|consistent] results.",
)
