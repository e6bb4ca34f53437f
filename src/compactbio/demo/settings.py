"""What is said of a field of medicine: where it is practised, what it measures, on which tissues and cells."""

from typing import NamedTuple


class Field(NamedTuple):
    """Phrases of one field; each tuple is a choice, and all read well in the places that the schemes give them."""

    clinics: tuple[str, ...]
    endpoints: tuple[str, ...]
    markers: tuple[str, ...]
    symptoms: tuple[str, ...]
    tissues: tuple[str, ...]
    cells: tuple[str, ...]
    examinations: tuple[str, ...]


FIELDS: dict[str, Field] = {
    "metabolism": Field(
        ("endocrine clinics", "outpatient metabolic clinics", "primary care practices"),
        ("metabolic control", "biochemical control", "normal laboratory values"),
        ("fasting plasma glucose", "body mass index", "serum triglycerides", "C-reactive protein"),
        ("fatigue", "weight loss", "muscle weakness", "polyuria"),
        ("liver", "skeletal muscle", "adipose tissue", "pancreatic islets"),
        ("HepG2 cells", "3T3-L1 adipocytes", "INS-1 cells", "C2C12 myotubes"),
        ("laboratory tests", "abdominal ultrasonography", "an oral tolerance test"),
    ),
    "cardiology": Field(
        ("cardiology departments", "cardiovascular centers", "coronary care units"),
        ("freedom from cardiovascular events", "event-free survival", "hemodynamic response"),
        ("systolic blood pressure", "left ventricular ejection fraction", "troponin T", "natriuretic peptide"),
        ("chest pain", "dyspnea", "palpitations", "syncope"),
        ("left ventricle", "aorta", "myocardium", "pulmonary artery"),
        ("H9c2 cardiomyocytes", "umbilical vein endothelial cells", "vascular smooth muscle cells"),
        ("electrocardiography", "echocardiography", "coronary angiography", "cardiac magnetic resonance imaging"),
    ),
    "oncology": Field(
        ("oncology centers", "comprehensive cancer centers", "university cancer clinics"),
        ("objective response", "disease control", "tumor shrinkage"),
        ("tumor burden", "circulating tumor DNA", "carcinoembryonic antigen", "lactate dehydrogenase"),
        ("weight loss", "pain", "fatigue", "a palpable mass"),
        ("tumor tissue", "primary tumors", "metastatic lesions", "paraffin-embedded tumor sections"),
        ("HeLa cells", "patient-derived tumor cells", "tumor organoids"),
        ("computed tomography", "positron emission tomography", "a tumor biopsy", "magnetic resonance imaging"),
    ),
    "hematology": Field(
        ("hematology departments", "transplant centers", "hematology clinics"),
        ("complete hematologic response", "transfusion independence", "event-free survival"),
        ("hemoglobin", "platelet count", "neutrophil count", "lactate dehydrogenase"),
        ("pallor", "fatigue", "easy bruising", "night sweats"),
        ("bone marrow", "peripheral blood", "spleen", "mononuclear cells"),
        ("K562 cells", "HL-60 cells", "primary bone marrow cells", "Jurkat cells"),
        ("bone marrow aspiration", "flow cytometry", "a peripheral blood smear"),
    ),
    "rheumatology": Field(
        ("rheumatology clinics", "arthritis centers", "rheumatology departments"),
        ("clinical remission", "low disease activity", "joint response"),
        ("C-reactive protein", "erythrocyte sedimentation rate", "joint pain score", "rheumatoid factor"),
        ("joint swelling", "morning stiffness", "fever", "joint pain"),
        ("synovial tissue", "cartilage", "peripheral blood", "synovial fluid"),
        ("fibroblast-like synoviocytes", "THP-1 macrophages", "primary chondrocytes"),
        ("joint ultrasonography", "radiography of the hands", "magnetic resonance imaging of the spine"),
    ),
    "dermatology": Field(
        ("dermatology clinics", "dermatology departments", "skin centers"),
        ("clear or almost clear skin", "skin response", "complete skin clearance"),
        ("skin severity score", "itch score", "serum immunoglobulin E"),
        ("itching", "a widespread rash", "skin lesions", "erythema"),
        ("lesional skin", "epidermis", "skin biopsies", "dermis"),
        ("HaCaT keratinocytes", "primary keratinocytes", "dermal fibroblasts"),
        ("a skin biopsy", "dermoscopy", "skin swabs"),
    ),
    "gastroenterology": Field(
        ("gastroenterology departments", "endoscopy centers", "digestive disease clinics"),
        ("mucosal healing", "clinical remission", "endoscopic healing"),
        ("fecal calprotectin", "alanine aminotransferase", "C-reactive protein", "endoscopic score"),
        ("abdominal pain", "diarrhea", "nausea", "jaundice"),
        ("colonic mucosa", "intestinal epithelium", "liver", "gastric mucosa"),
        ("Caco-2 cells", "HT-29 cells", "intestinal organoids", "primary hepatocytes"),
        ("colonoscopy", "upper endoscopy", "liver biopsy", "abdominal computed tomography"),
    ),
    "nephrology": Field(
        ("nephrology departments", "kidney centers", "dialysis units"),
        ("complete renal response", "preserved kidney function", "remission of proteinuria"),
        ("serum creatinine", "glomerular filtration rate", "urinary albumin excretion", "blood urea nitrogen"),
        ("leg edema", "reduced urine output", "foamy urine", "fatigue"),
        ("renal cortex", "glomeruli", "kidney biopsies", "proximal tubules"),
        ("HK-2 tubular cells", "cultured podocytes", "mesangial cells"),
        ("kidney biopsy", "renal ultrasonography", "urinalysis"),
    ),
    "pulmonology": Field(
        ("respiratory clinics", "pulmonary departments", "chest clinics"),
        ("freedom from exacerbations", "stable lung function", "symptom control"),
        ("forced expiratory volume", "forced vital capacity", "blood eosinophil count", "oxygen saturation"),
        ("cough", "dyspnea", "wheezing", "chest tightness"),
        ("lung tissue", "airway epithelium", "bronchial biopsies", "bronchoalveolar lavage fluid"),
        ("A549 cells", "bronchial epithelial cells", "lung fibroblasts", "alveolar macrophages"),
        ("spirometry", "chest radiography", "computed tomography of the chest", "bronchoscopy"),
    ),
    "neurology": Field(
        ("neurology departments", "memory and movement clinics", "neurological centers"),
        ("functional independence", "freedom from relapse", "symptom improvement"),
        ("disability score", "cerebrospinal fluid protein", "neurofilament light chain", "cognitive score"),
        ("headache", "limb weakness", "gait disturbance", "confusion"),
        ("hippocampus", "prefrontal cortex", "substantia nigra", "spinal cord"),
        ("SH-SY5Y cells", "primary cortical neurons", "cultured astrocytes", "BV-2 microglia"),
        ("magnetic resonance imaging of the brain", "electroencephalography", "lumbar puncture"),
    ),
    "psychiatry": Field(
        ("psychiatric hospitals", "mental health centers", "outpatient psychiatric clinics"),
        ("symptomatic remission", "treatment response", "freedom from relapse"),
        ("symptom severity score", "serum cortisol", "quality of life score", "sleep duration"),
        ("insomnia", "agitation", "social withdrawal", "loss of appetite"),
        ("prefrontal cortex", "hippocampus", "striatum", "peripheral blood"),
        ("SH-SY5Y cells", "PC12 cells", "primary hippocampal neurons"),
        ("a structured interview", "laboratory tests", "magnetic resonance imaging of the brain"),
    ),
    "ophthalmology": Field(
        ("eye hospitals", "ophthalmology departments", "retina clinics"),
        ("stable visual acuity", "target intraocular pressure", "improved reading acuity"),
        ("intraocular pressure", "visual acuity", "central retinal thickness"),
        ("blurred vision", "loss of vision", "eye pain", "redness"),
        ("retina", "trabecular meshwork", "retinal pigment epithelium", "optic nerve"),
        ("ARPE-19 cells", "retinal ganglion cells", "trabecular meshwork cells"),
        ("optical coherence tomography", "fundus photography", "slit-lamp examination"),
    ),
    "urology": Field(
        ("urology departments", "outpatient urology clinics", "continence clinics"),
        ("symptom relief", "clinical improvement", "treatment success"),
        ("maximum urinary flow rate", "symptom score", "residual urine volume"),
        ("urinary frequency", "nocturia", "hematuria", "pelvic pain"),
        ("prostate tissue", "bladder wall", "smooth muscle strips"),
        ("RWPE-1 cells", "primary smooth muscle cells", "urothelial cells"),
        ("cystoscopy", "urodynamic testing", "transrectal ultrasonography"),
    ),
    "infection": Field(
        ("infectious disease units", "tertiary hospitals", "district hospitals"),
        ("treatment success", "clinical response", "negative follow-up tests"),
        ("C-reactive protein", "procalcitonin", "white blood cell count", "pathogen load"),
        ("fever", "chills", "malaise", "headache"),
        ("blood", "spleen", "liver", "lymph nodes"),
        ("THP-1 macrophages", "Vero cells", "primary monocytes", "Huh-7 cells"),
        ("blood cultures", "polymerase chain reaction", "serology", "microscopy"),
    ),
}
"""Field -> its phrases; the keys are what `lexicon.Disease.field` names."""

CELLS: dict[str, tuple[str, ...]] = {
    "breast cancer": ("MCF-7 cells", "SK-BR-3 cells", "MDA-MB-231 cells"),
    "non-small cell lung cancer": ("A549 cells", "H1975 cells", "PC-9 cells"),
    "colorectal cancer": ("HCT116 cells", "SW480 cells", "HT-29 cells"),
    "prostate cancer": ("LNCaP cells", "PC-3 cells", "VCaP cells"),
    "ovarian cancer": ("SKOV-3 cells", "A2780 cells", "OVCAR-3 cells"),
    "melanoma": ("A375 cells", "SK-MEL-28 cells"),
    "glioblastoma": ("U87 cells", "U251 cells"),
    "neuroblastoma": ("SK-N-BE(2) cells", "Kelly cells"),
    "pancreatic cancer": ("PANC-1 cells", "MIA PaCa-2 cells"),
    "gastric cancer": ("AGS cells", "MKN45 cells"),
    "hepatocellular carcinoma": ("HepG2 cells", "Huh-7 cells"),
    "renal cell carcinoma": ("786-O cells", "Caki-1 cells"),
    "gastrointestinal stromal tumor": ("GIST882 cells", "GIST430 cells"),
    "endometrial cancer": ("Ishikawa cells", "HEC-1A cells"),
    "bladder cancer": ("T24 cells", "RT4 cells"),
    "chronic myeloid leukemia": ("K562 cells", "KCL-22 cells"),
    "acute myeloid leukemia": ("HL-60 cells", "MV4-11 cells", "MOLM-13 cells"),
    "acute promyelocytic leukemia": ("NB4 cells", "HL-60 cells"),
    "multiple myeloma": ("RPMI 8226 cells", "MM.1S cells", "U266 cells"),
    "diffuse large B-cell lymphoma": ("SU-DHL-4 cells", "OCI-Ly10 cells"),
    "chronic lymphocytic leukemia": ("MEC-1 cells", "primary B cells"),
}
"""Disease -> cell lines that were made from it."""
