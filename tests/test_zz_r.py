import itertools
import pytest
from django.urls import get_resolver
from approvals.models import *
from tests.conftest import waiting
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clean", "cast")]

def test_sweep(as_):
    one = waiting("support", subject="Fees")
    q = waiting("refunds") if False else None
    bad = []
    pks = [one.pk, 0, 10**17, 10**19, 10**30]
    acts = ["draft","drafts","drafts/restore","replies","reasons","compare","graph","value","claim","release","ask","keep","give","take","holder","set-aside","here","leave","people","notes","named","snooze","wake","assign","decide","redline",""]
    paths = [f"/reviews/{pk}/{a}" for pk in pks for a in acts]
    paths += ["/","/marks","/mentions","/next","/strip","/find","/profile/","/profile/theme","/profile/usual-keys","/many","/views/","/views/save","/views/1","/views/%d"%10**19,"/replies","/replies/1","/replies/%d"%10**19,"/replies/%d/delete"%10**19,"/overview"]
    odd = [
        {}, {"tab":"x"}, {"tab":"00000000-0000-0000-0000-000000000001","doing":"reading","active":"9"*17,"ahead":"9"*17},
        {"owner":"%USER%","tab":"00000000-0000-0000-0000-000000000001","base":"99999999999999999","version":"2147483647","digest":"\x00","edit.agent_response":"\x00\ud83d","edit.x":"y"},
        {"owner":"%USER%","tab":"00000000-0000-0000-0000-000000000001","base":"1","version":"0","call.0.action":"approve","answer":"\x00"},
        {"revision":"99999999999999999"},{"revision":"\x00"},
        {"note":"\x00"},{"note":"x"*5000},{"note":"@\x00 @rita @tom."},
        {"until":"own","own":"9999-12-31T23:59","zone":"../../etc/passwd"},{"until":"own","own":"8999-12-31T23:59","zone":"Europe/Berlin"},{"until":"hour","zone":"\x00"},{"until":"own","own":"0001-01-01T00:00","zone":"x"*5000},
        {"to":"person-999999999"},{"to":"group-1"},{"to":"\x00"},{"to":"person-"},
        {"act":"approve","row":"%d:a:b"%10**16,"sure":"1","key":"x"},{"act":"approve","row":f"{one.pk}:\x00:b","sure":"1","key":"00000000-0000-0000-0000-000000000001"},{"act":"snooze","row":f"{one.pk}:a:b","sure":"1","until":"own","own":"x"},{"act":"reject","row":f"{one.pk}:a:b","sure":"1","text":"\x00","key":"00000000-0000-0000-0000-000000000001"},
        {"name":"\x00"},{"name":"x"*9},{"name":"é","shared":"1"},
        {"title":"\x00","text":"\x00","place":"mine:"},{"title":"t","text":"{{a.b.c}} {{0}}","place":"mine:"},
        {"theme":"light","next":"//evil.com"},{"theme":"light","next":"https://evil.com/"},{"theme":"\x00"},{"key.approve":"\x00"},{"key.approve":"ab"},{"language":"xx"},{"besides":["9"*17,"x"],"ahead":"1"},
        {"id":"\x00"},{"q":"\x00"},{"q":"a:b \\ ' \" & | ! ( ) <-> :*"},{"sort":"title","after":"~~_"},{"sort":"title","after":"a~0001-01-01T00:00:00+14:00_1"},{"sort":"risk","after":"1~2026-01-01T00:00:00+00:00_"+"9"*30},{"sort":"deadline","after":"9999-12-31T23:59:59-14:00~2026-01-01T00:00:00+00:00_1"},{"sort":"newest","after":"2026-01-01T00:00:00+00:00_"+"9"*30},{"view":"decided","sort":"deadline"},{"view":"snoozed","sort":"risk"},{"round":"99999"},{"round":"-1+"},{"round":"²"},{"due":"never"},{"assignee":"\x00"},{"tag":"\x00"},{"ids":"1,2,x,"+"9"*30},{"current":"9"*17},{"q":"round:٣ tag:\"\" due:today is:mine sort:risk"},{"span":"x","graph":"nope"},{"part":"work","before":"\x00"},{"part":"history","before":"x"*500},{"one":"\x00","other":"x"},{"path":"/"+"a/"*500},{"action":"\x00"},
    ]
    n = 0
    for name in ("rita","mara","ada"):
        client = as_(name)
        client.raise_request_exception = False
        from django.contrib.auth import get_user_model
        uid = str(get_user_model().objects.get(username=name).pk)
        for path, data in itertools.product(paths, odd):
            if path.startswith("/reviews/") and str(one.pk) not in path.split("/")[2:3] and data not in odd[:3]: continue
            data = {k: (uid if v == "%USER%" else v) for k, v in data.items()}
            try:
                enc = {k: v.encode("utf-8","surrogatepass").decode("utf-8","replace") if isinstance(v,str) else v for k,v in data.items()}
            except Exception: enc = data
            for method in ("get","post"):
                for extra in ({}, {"HTTP_HX_REQUEST":"true"}):
                    if extra and method == "get" and n % 3: continue
                    r = getattr(client, method)(path, enc, **extra); n += 1
                    loc = r.headers.get("Location","")
                    if r.status_code >= 500 or "evil" in loc: bad.append((name, method, path, {k: str(v)[:40] for k,v in enc.items()}, r.status_code, loc))
        print(name, n, len(bad))
    seen=set()
    for b in bad:
        k=(b[1],b[2].split("/")[-1],str(b[3])[:50])
        if k in seen: continue
        seen.add(k); print(b)
    assert not bad
